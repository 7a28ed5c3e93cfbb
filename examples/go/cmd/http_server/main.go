// Command http_server runs a web server in a gVisor sandbox and fetches a page from it over TLS.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	sbx "github.com/libsbx/libsbx-go"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	sandbox, err := sbx.Create(ctx, &sbx.Config{
		Command:        []string{"python3", "-m", "http.server", "12345"},
		EncryptedPorts: []uint16{12345},
	})
	if err != nil {
		return err
	}
	defer sandbox.Close()
	if err := sandbox.WaitReady(ctx); err != nil {
		return err
	}

	tunnel, err := sandbox.Tunnel(12345)
	if err != nil {
		return err
	}
	fmt.Println(tunnel.URL) // https://127.0.0.1:41873

	response, err := tunnel.Client().Get(tunnel.URL) // trusts this tunnel's certificate and no other
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}

	if err := sandbox.Terminate(); err != nil {
		return err
	}
	exit, err := sandbox.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Println("ended with", exit.Code) // 137: terminated by its host
	return nil
}
