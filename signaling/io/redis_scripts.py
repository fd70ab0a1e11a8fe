"""What must happen at once on the bus: Lua that Redis runs as one step.

A room is a hash: `owner`, the node it is at, and `claims`, sealed. A node lives as long as its key does, which it
renews, and as long as it listens to its channel: the end of a process closes its sockets, and so is seen at once.
The first 16 characters of an owner name the process, the others its connection.
"""

# KEYS: room · ARGV: own id, key and channel of a node without its id, milliseconds to keep the room
# Returns the owner, and if that is the asker the claims that were kept: it may have given up on an earlier answer.
CLAIM = """
local owner = redis.call('HGET', KEYS[1], 'owner')
local ours = owner and string.sub(owner, 1, 16) == string.sub(ARGV[1], 1, 16)
if owner and not ours and redis.call('EXISTS', ARGV[2] .. owner) == 1
    and redis.call('PUBSUB', 'NUMSUB', ARGV[3] .. owner)[2] > 0 then
  return {owner, false}
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], redis.call('HGET', KEYS[1], 'claims')}
"""

# KEYS: room · ARGV: own id, claims, milliseconds to keep the room
# Returns 1; 0, and changes nothing, if another process has the room.
SAVE = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 16) ~= string.sub(ARGV[1], 1, 16) then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'claims', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: room · ARGV: own id
RELEASE = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 16) == string.sub(ARGV[1], 1, 16) then return redis.call('DEL', KEYS[1]) end
return 0
"""
