"""Judges what belongs to the installation: the running service, its certificate, its stores and its secrets."""

import stat
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from config.doctor.facts import Certificate, Database, Redis, Service, StateDirectory
from config.doctor.findings import Finding, fault, ok, warning
from config.leaf import fits
from config.settings_file import SettingsFile

SOON: Final = timedelta(days=14)
LITTLE_SPACE: Final = 100 << 20
NO_SPACE: Final = 10 << 20
_OTHER_KEY: Final = "KEY_VALUES_MISMATCH"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def check_service(facts: Service) -> Iterator[Finding]:
    """Whether it runs, and what it says of itself."""
    if facts.hangs:
        yield fault("service", facts.trouble, "look at its log and its CPU; kill it if it hangs for good")
    elif facts.trouble:
        yield warning("service", facts.trouble, "run the doctor as root, or as the user of the service")
    elif not facts.is_running:
        yield warning("service", "it does not run: what needs it is not checked", "redconnect serve")
    elif not facts.failing:
        yield ok("service", f"it runs in {len(facts.pids)} processes, and is ready")
    for name, reason in facts.failing:
        yield fault("service", f"it is not ready: {name}" + (f", {reason}" if reason else ""), "look at its log")


def check_certificate(facts: Certificate) -> Iterator[Finding]:
    """Whether browsers will accept it, today and in two weeks."""
    if not facts.is_needed:
        yield ok("certificate", "neither TLS nor https is served")
        return
    if facts.refusal == _OTHER_KEY:
        yield fault("certificate", "the key belongs to another certificate", "check tls.key_file")
    elif facts.refusal:
        found = f"no TLS can be served with it and its key: {facts.refusal}"
        yield fault("certificate", found, "check tls.certificate_file and tls.key_file")
    leaf = facts.chain[0]
    left = leaf.ends - facts.now
    if left <= timedelta():
        yield fault("certificate", f"{facts.file} has expired on {leaf.ends.date()}", "renew it")
    elif left < SOON:
        yield warning("certificate", f"{left.days} days are left, until {leaf.ends.date()}", "renew it")
    else:
        yield ok("certificate", f"{left.days} days are left, until {leaf.ends.date()}")
    if facts.is_ours:
        mend = "put a certificate of an authority into tls.certificate_file and tls.key_file"
        yield warning("certificate", "self-signed: browsers ask, and turns: is refused", mend)
        return
    yield from _check_chain(facts)
    for host in facts.hosts:
        if not any(fits(host, name) for name in facts.names):
            mend = f"get one for {host}, or change signaling.public_url and signaling.ice.host"
            yield fault("certificate", f"it is not good for {host}, which clients are told", mend)


def check_database(facts: Database) -> Finding:
    """Whether appointments can be read, and tables have today's shape."""
    if not facts.is_needed:
        return ok("database", "none is needed without signaling")
    if facts.error:
        return fault("database", f"it cannot be used: {facts.error}", "check database_url and state_dir")
    if not facts.exists:
        return ok("database", "it will be made at the first start")
    if not facts.is_current:
        return warning("database", "its tables are those of another version", "the next start takes the missing steps")
    return ok("database", "it answers, and its tables are up to date")


def check_redis(facts: Redis) -> Finding:
    """Whether signaling nodes find each other."""
    if not facts.is_needed:
        return ok("Redis", "none is needed for one node")
    if facts.error:
        return fault("Redis", f"it does not answer: {facts.error}", "check signaling.redis_url")
    return ok("Redis", "it answers")


def check_state_directory(facts: StateDirectory) -> Iterator[Finding]:
    """Secrets are for their owner alone, and there is room to write."""
    if not facts.exists:
        yield warning("state_dir", f"{facts.path} does not exist yet", "the first start makes it; check the path")
        return
    if facts.mode & _OTHERS:
        yield fault("state_dir", f"{facts.path} is open to others (mode {facts.mode:04o})", f"chmod 700 {facts.path}")
    open_files = [file for file in facts.files if file.mode & _OTHERS]
    for file in open_files:
        name = f"{facts.path}/{file.name}"
        yield fault("state_dir", f"{name} is open to others (mode {file.mode:04o})", f"chmod 600 {name}")
    strangers = [file.name for file in facts.files if file.owner != facts.expected_owner]
    if strangers or facts.owner != facts.expected_owner:
        what = strangers[0] if strangers else "it"
        mend = f"chown -R {facts.expected_owner} {facts.path}"
        yield fault("state_dir", f"{what} belongs to another user than {facts.expected_owner}", mend)
    if facts.free < LITTLE_SPACE:
        judge = fault if facts.free < NO_SPACE else warning
        yield judge("state_dir", f"{facts.free >> 20} MiB are free", "make room: appointments cannot be written soon")
    elif not open_files and not facts.mode & _OTHERS:
        yield ok("state_dir", f"{facts.path} is for its owner alone, {facts.free >> 20} MiB are free")


def check_settings_file(facts: SettingsFile | None) -> Finding:
    """Whether the file of settings is for the service and its administrators alone."""
    if facts is None:
        return ok("settings", "there is no file: the defaults hold")
    if facts.exposure:
        mend = f"chmod 640 {facts.path}, with owner root and the group of the service (chown root:GROUP)"
        return fault("settings", f"{facts.path} {facts.exposure} (mode {facts.mode:04o})", mend)
    if facts.holds_secrets:
        return ok("settings", f"{facts.path} holds secrets, and others cannot read it")
    return ok("settings", f"{facts.path} holds no secret, and others cannot change it")


def _check_chain(facts: Certificate) -> Iterator[Finding]:
    broken = next((link for link in facts.chain if not link.is_signed_by_next), None)
    if broken is None:
        yield ok("certificate", f"the chain of {len(facts.chain)} is complete")
    elif broken is facts.chain[-1]:
        found = f"the chain ends before {broken.issuer}, which is no root of this system"
        yield fault("certificate", found, "append the intermediate certificates to tls.certificate_file")
    else:
        found = f"{broken.subject} is not signed by the next certificate in the file"
        yield fault("certificate", found, "put them in order: the server's own first, then each issuer")
