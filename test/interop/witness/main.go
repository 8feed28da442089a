// What others wrote for the witness protocol, on ours. JSON on stdin, JSON on stdout. Run by test/interop/witness-go.test.ts.
//
//	serve    transparency-dev's witness, over HTTP, until stdin ends
//	ask      transparency-dev's client asks a witness of ours
//	verify   torchwood opens tlog-proofs under tlog-policies, both as we write them
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"filippo.io/torchwood"
	client "github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type input struct {
	Do string
	// serve: the verifier key of the log that is watched.
	Log string
	// ask
	URL        string
	Old        uint64
	Proof      [][]byte
	Checkpoint string
	// verify
	Cases []struct {
		Policy string
		Leaf   []byte
		// Empty: only whether the policy can be read.
		Proof string
	}
}

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func print(value any) {
	must(json.NewEncoder(os.Stdout).Encode(value), "output")
}

func main() {
	var in input
	decoder := json.NewDecoder(os.Stdin)
	must(decoder.Decode(&in), "input")
	switch in.Do {
	case "serve":
		serve(in)
	case "ask":
		ask(in)
	case "verify":
		verify(in)
	default:
		must(fmt.Errorf("no such thing as %q", in.Do), "input")
	}
}

func serve(in input) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(err, "key")
	signer, err := torchwood.NewCosignatureSigner("foreign.example/witness", key)
	must(err, "signer")
	log, err := note.NewVerifier(in.Log)
	must(err, "log")
	core, err := witness.New(context.Background(), witness.Opts{
		Persistence: inmemory.New(),
		Signers:     []note.Signer{signer},
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			return log, origin == log.Name(), nil
		},
	})
	must(err, "witness")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(core).AddCheckpoint)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err, "listen")
	go func() { must(http.Serve(listener, mux), "serve") }()
	print(map[string]string{"url": "http://" + listener.Addr().String(), "vkey": signer.Verifier().String()})
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func ask(in input) {
	address, err := url.Parse(in.URL)
	must(err, "url")
	lines, size, err := client.NewWitness(address, http.DefaultClient).
		Update(context.Background(), in.Old, []byte(in.Checkpoint), in.Proof)
	answer := map[string]any{"lines": string(lines), "size": size, "error": ""}
	if err != nil {
		answer["error"] = err.Error()
	}
	print(answer)
}

func verify(in input) {
	answers := []string{}
	for _, one := range in.Cases {
		policy, err := torchwood.ParsePolicy([]byte(one.Policy))
		if err == nil && one.Proof != "" {
			err = torchwood.VerifyProof(policy, tlog.RecordHash(one.Leaf), []byte(one.Proof))
		}
		if err != nil {
			answers = append(answers, err.Error())
		} else {
			answers = append(answers, "")
		}
	}
	print(answers)
}
