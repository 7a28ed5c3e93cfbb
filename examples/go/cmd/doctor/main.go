// Command doctor says what this machine lacks for sandboxes: doctor [--json]
//
// The exit status is 0 where sandboxes can be created, else 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"

	sbx "github.com/libsbx/libsbx-go"
)

func main() {
	log.SetFlags(0)
	asJSON := flag.Bool("json", false, "one line of JSON, for programs")
	flag.Parse()
	report, err := sbx.Doctor(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if *asJSON {
		fmt.Println(report.JSON)
	} else {
		fmt.Print(report)
	}
	if !report.Usable {
		os.Exit(1)
	}
}
