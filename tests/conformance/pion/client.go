// A client of the running relay on pion's TURN client (Debian's golang-github-pion-turn.v2-dev), written by others.
//
//	client udp|tcp|tls SERVER:PORT USER PASSWORD REALM COUNT
//
// It asks for its reflexive address, allocates, and sends COUNT numbered datagrams to its own peer, which echoes. Each is sent
// when the one before has come back; pion sends indications until its channel is bound, then ChannelData. It prints the
// relayed address and how many came back unchanged, and fails if one did not.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/turn/v2"
)

const patience = 10 * time.Second

func main() {
	log.SetFlags(0)
	if len(os.Args) != 7 {
		log.Fatal("usage: client udp|tcp|tls SERVER:PORT USER PASSWORD REALM COUNT")
	}
	count, err := strconv.Atoi(os.Args[6])
	check(err)
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	check(err)
	go echo(peer)

	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: os.Args[2],
		TURNServerAddr: os.Args[2],
		Conn:           open(os.Args[1], os.Args[2]),
		Username:       os.Args[3],
		Password:       os.Args[4],
		Realm:          os.Args[5],
	})
	check(err)
	defer client.Close()
	check(client.Listen())
	_, err = client.SendBindingRequest()
	check(err)
	relayed, err := client.Allocate()
	check(err)
	fmt.Println("relayed", relayed.LocalAddr())
	same := echoed(relayed, peer.LocalAddr(), count)
	check(relayed.Close())
	fmt.Println("echoed", same)
	if same != count {
		os.Exit(1)
	}
}

func open(network, server string) net.PacketConn {
	switch network {
	case "udp":
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		check(err)
		return conn
	case "tcp":
		conn, err := net.Dial("tcp4", server)
		check(err)
		return turn.NewSTUNConn(conn)
	case "tls":
		// The certificate is one that the service has just made for itself.
		conn, err := tls.Dial("tcp4", server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		check(err)
		return turn.NewSTUNConn(conn)
	}
	log.Fatalf("unknown transport %q", network)
	return nil
}

func echo(peer net.PacketConn) {
	buffer := make([]byte, 2048)
	for {
		size, from, err := peer.ReadFrom(buffer)
		check(err)
		_, err = peer.WriteTo(buffer[:size], from)
		check(err)
	}
}

func echoed(relayed net.PacketConn, peer net.Addr, count int) (same int) {
	buffer := make([]byte, 2048)
	for number := 0; number < count; number++ {
		text := fmt.Sprintf("datagram %d", number)
		_, err := relayed.WriteTo([]byte(text), peer)
		check(err)
		check(relayed.SetReadDeadline(time.Now().Add(patience)))
		size, from, err := relayed.ReadFrom(buffer)
		check(err)
		if from.String() == peer.String() && string(buffer[:size]) == text {
			same++
		}
	}
	return same
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
