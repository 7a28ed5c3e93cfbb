// QUIC as it is really spoken: quic serve PORT, quic transfer ADDRESS:PORT MIB.
//
// The server takes connections to every address, as the Internet's other servers here do, and says "ready". The
// client sends that many MiB and gets as many back, each way followed by a digest that the other end compares; it
// prints how many bytes went each way, or what went wrong.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	protocol = "sbx-test"
	// From linux/in6.h; the IPv4 twin is in syscall.
	ipv6Transparent = 75
	// How long nothing may come.
	patience = 5 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) == 2 && words[0] == "serve" {
		return serve(words[1])
	}
	if len(words) == 3 && words[0] == "transfer" {
		mebibytes, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return err
		}
		return transfer(words[1], mebibytes<<20)
	}
	return errors.New("usage: quic serve PORT | transfer ADDRESS:PORT MIB")
}

// send writes so many bytes, and their digest.
func send(stream *quic.Stream, length int64) error {
	digest := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(stream, digest), rand.Reader, length); err != nil {
		return err
	}
	_, err := stream.Write(digest.Sum(nil))
	return err
}

// receive reads what send writes.
func receive(stream *quic.Stream, length int64) error {
	digest, said := sha256.New(), make([]byte, sha256.Size)
	if _, err := io.CopyN(digest, stream, length); err != nil {
		return err
	}
	if _, err := io.ReadFull(stream, said); err != nil {
		return err
	}
	if !bytes.Equal(digest.Sum(nil), said) {
		return errors.New("what came is not what was sent")
	}
	return nil
}

func serve(port string) error {
	configuration, err := identity()
	if err != nil {
		return err
	}
	ended := make(chan error)
	for _, network := range []string{"udp4", "udp6"} {
		listening := net.ListenConfig{Control: anyAddress}
		bound, err := listening.ListenPacket(context.Background(), network, ":"+port)
		if err != nil {
			return err
		}
		listener, err := quic.Listen(bound, configuration, nil)
		if err != nil {
			return err
		}
		go func() {
			for {
				connection, err := listener.Accept(context.Background())
				if err != nil {
					ended <- err
					return
				}
				go answer(connection)
			}
		}()
	}
	fmt.Println("ready")
	return <-ended
}

// answer checks what each stream brings and sends as much back. A client learns of a difference by a reset.
func answer(connection *quic.Conn) {
	for {
		stream, err := connection.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go func() {
			length, err := readLength(stream)
			if err == nil {
				err = receive(stream, length)
			}
			if err == nil {
				err = send(stream, length)
			}
			if err != nil {
				stream.CancelWrite(1)
			}
			stream.Close()
		}()
	}
}

func readLength(stream *quic.Stream) (int64, error) {
	words := make([]byte, 20)
	if _, err := io.ReadFull(stream, words); err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(words)), 10, 64)
}

func transfer(address string, length int64) error {
	waiting, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	// Who the server is doesn't matter here, what arrives does.
	configuration := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
	connection, err := quic.DialAddr(waiting, address, configuration, &quic.Config{HandshakeIdleTimeout: patience})
	if err != nil {
		return err
	}
	defer connection.CloseWithError(0, "")
	stream, err := connection.OpenStreamSync(waiting)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stream, "%20d", length); err != nil {
		return err
	}
	if err := send(stream, length); err != nil {
		return err
	}
	if err := receive(stream, length); err != nil {
		return err
	}
	fmt.Println(length)
	return nil
}

// anyAddress makes a socket take what was sent to any address; quic-go itself answers from that address.
func anyAddress(network, _ string, connection syscall.RawConn) error {
	level, option := syscall.IPPROTO_IP, syscall.IP_TRANSPARENT
	if network == "udp6" {
		level, option = syscall.IPPROTO_IPV6, ipv6Transparent
	}
	var failed error
	err := connection.Control(func(descriptor uintptr) {
		failed = syscall.SetsockoptInt(int(descriptor), level, option, 1)
	})
	return errors.Join(err, failed)
}

// identity is a certificate that nobody else has.
func identity() (*tls.Config, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, err
	}
	chain := tls.Certificate{Certificate: [][]byte{certificate}, PrivateKey: private}
	return &tls.Config{Certificates: []tls.Certificate{chain}, NextProtos: []string{protocol}}, nil
}
