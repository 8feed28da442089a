// Verifies what our log published with Go's own transparency log packages: the checkpoint's signature, every tile against
// its root, our inclusion and consistency proofs, and the proofs that Go makes from our tiles. JSON on stdin; prints the
// number of checks, or what failed. Run by test/interop/merkle-go.test.ts.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type input struct {
	VerifierKey string
	Checkpoint  string
	Leaves      [][]byte
	// By tlog-tiles path: `0/000`, `0/001.p/44`.
	Tiles       map[string][]byte
	Inclusion   map[int64][][]byte
	Consistency []struct {
		Size, Size2 int64
		Root, Root2 []byte
		Proof       [][]byte
	}
}

type tiles map[string][]byte

func (t tiles) Height() int { return 8 }

// Go names tiles `tile/8/L/N`, tlog-tiles `tile/L/N`.
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := strings.TrimPrefix(tile.Path(), "tile/8/")
		data, ok := t[path]
		if !ok {
			return nil, fmt.Errorf("no tile %s", path)
		}
		found = append(found, data)
	}
	return found, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func hashes(list [][]byte) []tlog.Hash {
	all := make([]tlog.Hash, len(list))
	for i, one := range list {
		all[i] = hash(one)
	}
	return all
}

func hash(data []byte) (h tlog.Hash) {
	if len(data) != len(h) {
		fail("a hash of %d bytes", len(data))
	}
	copy(h[:], data)
	return h
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func main() {
	var in input
	must(json.NewDecoder(os.Stdin).Decode(&in), "input")
	verifier, err := note.NewVerifier(in.VerifierKey)
	must(err, "verifier key")
	opened, err := note.Open([]byte(in.Checkpoint), note.VerifierList(verifier))
	must(err, "checkpoint")
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err, "size")
	var root tlog.Hash
	must(root.UnmarshalJSON([]byte(strconv.Quote(lines[2]))), "root")
	if lines[0] != verifier.Name() || size != int64(len(in.Leaves)) {
		fail("the checkpoint is of %s, %d leaves", lines[0], size)
	}
	tree := tlog.Tree{N: size, Hash: root}
	reader := tlog.TileHashReader(tree, tiles(in.Tiles))
	checks := 1
	for index, leaf := range in.Leaves {
		proof, err := tlog.ProveRecord(size, int64(index), reader)
		must(err, fmt.Sprintf("Go's proof of leaf %d", index))
		must(tlog.CheckRecord(proof, size, root, int64(index), tlog.RecordHash(leaf)), fmt.Sprintf("Go's proof of leaf %d", index))
		checks++
	}
	for index, proof := range in.Inclusion {
		err := tlog.CheckRecord(hashes(proof), size, root, index, tlog.RecordHash(in.Leaves[index]))
		must(err, fmt.Sprintf("our proof of leaf %d", index))
		checks++
	}
	for _, c := range in.Consistency {
		err := tlog.CheckTree(hashes(c.Proof), c.Size2, hash(c.Root2), c.Size, hash(c.Root))
		must(err, fmt.Sprintf("our proof of %d in %d", c.Size, c.Size2))
		checks++
	}
	fmt.Println(checks)
}
