// Asks go-spiffe, many times in one process: frames on stdin (four bytes of length, big-endian, then a byte that says what it
// is), a byte of answer each on stdout: 1 taken, 0 refused. Run with the argument `mint` it prints SVIDs that Go itself makes; with
// `federate` and `get` it is a client of our bundle endpoint and of our TLS front. Used by test/interop/spiffe*.test.ts.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const frameBytesMax = 1 << 20

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// asker holds what the frames before have set.
type asker struct {
	bundle *spiffebundle.Bundle
	now    time.Time
}

// part takes four bytes of length and as many bytes off the front.
func part(rest *[]byte) []byte {
	length := binary.BigEndian.Uint32(*rest)
	taken := (*rest)[4 : 4+length]
	*rest = (*rest)[4+length:]
	return taken
}

func (a *asker) answer(kind byte, rest []byte) error {
	switch kind {
	case 'b': // trust domain, bundle document
		domain, err := spiffeid.TrustDomainFromString(string(part(&rest)))
		if err != nil {
			return err
		}
		bundle, err := spiffebundle.Parse(domain, part(&rest))
		if err == nil {
			a.bundle = bundle
		}
		return err
	case 't': // milliseconds
		a.now = time.UnixMilli(int64(binary.BigEndian.Uint64(rest)))
		return nil
	case 'x': // certificates
		var chain [][]byte
		for len(rest) > 0 {
			chain = append(chain, part(&rest))
		}
		_, _, err := x509svid.ParseAndVerify(chain, a.bundle, x509svid.WithTime(a.now))
		return err
	case 'j': // audience, token; at the time that it is
		audience := string(part(&rest))
		_, err := jwtsvid.ParseAndValidate(string(part(&rest)), a.bundle, []string{audience})
		return err
	case 'i': // a SPIFFE ID
		_, err := spiffeid.FromString(string(rest))
		return err
	}
	return fmt.Errorf("no such question: %q", kind)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "mint" {
		mint()
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "federate" {
		federate(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "get" {
		get(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		return
	}
	in := bufio.NewReaderSize(os.Stdin, frameBytesMax)
	out := bufio.NewWriter(os.Stdout)
	asker := asker{now: time.Now()}
	for {
		var length uint32
		err := binary.Read(in, binary.BigEndian, &length)
		if err == io.EOF {
			break
		}
		must(err)
		if length == 0 || length > frameBytesMax {
			must(fmt.Errorf("a frame of %d bytes", length))
		}
		frame := make([]byte, length)
		_, err = io.ReadFull(in, frame)
		must(err)
		answer := byte(0)
		if asker.answer(frame[0], frame[1:]) == nil {
			answer = 1
		}
		must(out.WriteByte(answer))
		if in.Buffered() == 0 {
			must(out.Flush())
		}
	}
	must(out.Flush())
}

const answerBytesMax = 1 << 20

// federate fetches the bundle of a trust domain from an https_spiffe endpoint, as SPIFFE Federation 5.2.2 has it: the server is
// believed by the bundle in the file.
func federate(domainName, endpoint, serverID, bundlePath string) {
	domain, err := spiffeid.TrustDomainFromString(domainName)
	must(err)
	server, err := spiffeid.FromString(serverID)
	must(err)
	known, err := spiffebundle.Load(server.TrustDomain(), bundlePath)
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fetched, err := federation.FetchBundle(ctx, domain, endpoint, federation.WithSPIFFEAuth(known, server))
	must(err)
	document, err := fetched.Marshal()
	must(err)
	_, err = os.Stdout.Write(document)
	must(err)
}

// get asks a URL as the SVID of a folder, by mutual TLS, from a server that has the ID, under the bundle of that folder.
func get(address, serverID, folder, bundlePath string) {
	server, err := spiffeid.FromString(serverID)
	must(err)
	bundle, err := spiffebundle.Load(server.TrustDomain(), bundlePath)
	must(err)
	svid, err := x509svid.Load(folder+"/svid.pem", folder+"/svid.key")
	must(err)
	config := tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(server))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 10 * time.Second}
	answer, err := client.Get(address)
	must(err)
	_, err = io.Copy(os.Stdout, io.LimitReader(answer.Body, answerBytesMax))
	must(err)
}

type minted struct {
	Name   string   `json:"name"`
	Chain  [][]byte `json:"chain"`
	Bundle string   `json:"bundle"`
	Token  string   `json:"token"`
}

func mint() {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	ec := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
		return key
	}
	kinds := []struct {
		name string
		key  crypto.Signer
		x509 x509.SignatureAlgorithm
		jwt  jose.SignatureAlgorithm
	}{
		{"P-256", ec(elliptic.P256()), x509.ECDSAWithSHA256, jose.ES256},
		{"P-384", ec(elliptic.P384()), x509.ECDSAWithSHA384, jose.ES384},
		{"P-521", ec(elliptic.P521()), x509.ECDSAWithSHA512, jose.ES512},
		{"RSA", rsaKey, x509.SHA256WithRSA, jose.RS256},
		{"RSA-384", rsaKey, x509.SHA384WithRSA, jose.RS384},
		{"RSA-512", rsaKey, x509.SHA512WithRSA, jose.RS512},
		{"RSA-PSS-256", rsaKey, x509.SHA256WithRSAPSS, jose.PS256},
		{"RSA-PSS-384", rsaKey, x509.SHA384WithRSAPSS, jose.PS384},
		{"RSA-PSS-512", rsaKey, x509.SHA512WithRSAPSS, jose.PS512},
		{"Ed25519", edKey, x509.PureEd25519, ""},
	}
	all := []minted{}
	for _, kind := range kinds {
		all = append(all, mintOne(kind.name, kind.key, kind.x509, kind.jwt))
	}
	must(json.NewEncoder(os.Stdout).Encode(all))
}

func mintOne(name string, key crypto.Signer, algorithm x509.SignatureAlgorithm, jwtAlgorithm jose.SignatureAlgorithm) minted {
	domain := spiffeid.RequireTrustDomainFromString("go.example")
	now := time.Now()
	uri := func(text string) []*url.URL {
		parsed, err := url.Parse(text)
		must(err)
		return []*url.URL{parsed}
	}
	create := func(template, parent *x509.Certificate, public any, signer crypto.Signer) *x509.Certificate {
		template.NotBefore, template.NotAfter = now.Add(-time.Minute), now.Add(time.Hour)
		template.BasicConstraintsValid = true
		template.SignatureAlgorithm = algorithm
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		must(err)
		certificate, err := x509.ParseCertificate(der)
		must(err)
		return certificate
	}
	authorityOf := func(serial int64, subject string, pathLength int) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{subject}},
			IsCA: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, URIs: uri("spiffe://go.example"),
		}
	}
	root := authorityOf(1, "root", 1)
	root = create(root, root, key.Public(), key)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	below := create(authorityOf(2, "intermediate", 0), root, key.Public(), key)
	leaf := create(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        uri("spiffe://go.example/workload"), DNSNames: []string{"workload.go.example"},
	}, below, leafKey.Public(), key)

	bundle := spiffebundle.New(domain)
	bundle.AddX509Authority(root)
	bundle.SetSequenceNumber(7)
	bundle.SetRefreshHint(time.Minute)
	token := ""
	if jwtAlgorithm != "" {
		must(bundle.AddJWTAuthority("key-1", key.Public()))
		options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "key-1")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jwtAlgorithm, Key: key}, options)
		must(err)
		token, err = jwt.Signed(signer).Claims(jwt.Claims{
			Subject: "spiffe://go.example/workload", Audience: jwt.Audience{"api"},
			Expiry: jwt.NewNumericDate(now.Add(time.Minute)), IssuedAt: jwt.NewNumericDate(now),
		}).Serialize()
		must(err)
	}
	document, err := bundle.Marshal()
	must(err)
	var compact bytes.Buffer
	must(json.Compact(&compact, document))
	return minted{name, [][]byte{leaf.Raw, below.Raw}, compact.String(), token}
}
