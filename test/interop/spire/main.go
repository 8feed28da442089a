// What a SPIRE server does with SVIDs and bundles, by SPIRE's own packages: its CA with its templates and its validator, its bundle
// endpoint (https_spiffe) and its client of other ones. A whole server takes more minutes to build than CI has (ADR-1235): left out
// are its store, its plugins and its agents. Used by test/interop/spire.test.ts.
//
//	serve TRUST-DOMAIN AUDIENCE   prints what it issued and where its endpoint is, as JSON, and serves until stdin ends
//	fetch TRUST-DOMAIN URL SERVER-ID BUNDLE-FILE   prints the bundle that SPIRE's client fetched
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire/pkg/common/bundleutil"
	"github.com/spiffe/spire/pkg/common/health"
	"github.com/spiffe/spire/pkg/common/telemetry"
	"github.com/spiffe/spire/pkg/common/x509util"
	"github.com/spiffe/spire/pkg/server/bundle/client"
	"github.com/spiffe/spire/pkg/server/ca"
	"github.com/spiffe/spire/pkg/server/credtemplate"
	"github.com/spiffe/spire/pkg/server/credvalidator"
	"github.com/spiffe/spire/pkg/server/endpoints/bundle"
)

const refreshHint = time.Minute

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// noChecks stands in for the server's health endpoint, which asks nothing here.
type noChecks struct{}

func (noChecks) AddCheck(string, health.Checkable) error { return nil }

type issued struct {
	ServerID string `json:"server_id"`
	URL      string `json:"url"`
	Bundle   string `json:"bundle"`
	Chain    string `json:"chain"`
	Token    string `json:"token"`
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return key
}

func serve(domainName, audience string) {
	ctx, cancel := context.WithCancel(context.Background())
	domain, err := spiffeid.TrustDomainFromString(domainName)
	must(err)
	log := logrus.New()
	log.SetOutput(os.Stderr)
	builder, err := credtemplate.NewBuilder(credtemplate.Config{TrustDomain: domain})
	must(err)
	validator, err := credvalidator.New(credvalidator.Config{TrustDomain: domain})
	must(err)
	authority := ca.NewCA(ca.Config{
		Log: log, Metrics: telemetry.Blackhole{}, TrustDomain: domain,
		CredBuilder: builder, CredValidator: validator, HealthChecker: noChecks{},
	})

	caKey, jwtKey, serverKey := newKey(), newKey(), newKey()
	template, err := builder.BuildSelfSignedX509CATemplate(ctx, credtemplate.SelfSignedX509CAParams{PublicKey: caKey.Public()})
	must(err)
	root, err := x509util.CreateCertificate(template, template, caKey.Public(), caKey)
	must(err)
	must(validator.ValidateX509CA(root))
	authority.SetX509CA(&ca.X509CA{Signer: caKey, Certificate: root})
	authority.SetJWTKey(&ca.JWTKey{Signer: jwtKey, Kid: "jwt-1", NotAfter: time.Now().Add(time.Hour)})

	workload := spiffeid.RequireFromPath(domain, "/tenant/demo/publisher/ci")
	chain, err := authority.SignWorkloadX509SVID(ctx, ca.WorkloadX509SVIDParams{PublicKey: newKey().Public(), SPIFFEID: workload})
	must(err)
	token, err := authority.SignWorkloadJWTSVID(ctx, ca.WorkloadJWTSVIDParams{SPIFFEID: workload, Audience: []string{audience}})
	must(err)
	serverChain, err := authority.SignServerX509SVID(ctx, ca.ServerX509SVIDParams{PublicKey: serverKey.Public()})
	must(err)

	own := spiffebundle.New(domain)
	own.AddX509Authority(root)
	must(own.AddJWTAuthority("jwt-1", jwtKey.Public()))
	own.SetSequenceNumber(3)
	own.SetRefreshHint(refreshHint)
	document, err := bundleutil.Marshal(own)
	must(err)

	// SPIRE's endpoint takes an address and does not say which port it got.
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	address := probe.Addr().String()
	must(probe.Close())
	endpoint := bundle.NewServer(bundle.ServerConfig{
		Log: log, Address: address, RefreshHint: refreshHint,
		Getter: bundle.GetterFunc(func(context.Context) (*spiffebundle.Bundle, error) { return own, nil }),
		ServerAuth: bundle.SPIFFEAuth(func() ([]*x509.Certificate, crypto.PrivateKey, error) {
			return serverChain, serverKey, nil
		}),
	})
	ended := make(chan error, 1)
	go func() { ended <- endpoint.ListenAndServe(ctx) }()

	text := ""
	for _, certificate := range chain {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	}
	must(json.NewEncoder(os.Stdout).Encode(issued{
		ServerID: serverChain[0].URIs[0].String(), URL: "https://" + address + "/", Bundle: string(document), Chain: text, Token: token,
	}))
	_, err = io.Copy(io.Discard, os.Stdin)
	must(err)
	cancel()
	must(<-ended)
}

func fetch(domainName, url, serverID, bundlePath string) {
	domain, err := spiffeid.TrustDomainFromString(domainName)
	must(err)
	server, err := spiffeid.FromString(serverID)
	must(err)
	known, err := spiffebundle.Load(server.TrustDomain(), bundlePath)
	must(err)
	asker, err := client.NewClient(client.ClientConfig{
		TrustDomain: domain, EndpointURL: url,
		SPIFFEAuth: &client.SPIFFEAuthConfig{EndpointSpiffeID: server, RootCAs: known.X509Authorities()},
	})
	must(err)
	fetched, err := asker.FetchBundle(context.Background())
	must(err)
	document, err := bundleutil.Marshal(fetched)
	must(err)
	_, err = os.Stdout.Write(document)
	must(err)
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	} else if len(os.Args) == 6 && os.Args[1] == "fetch" {
		fetch(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	} else {
		must(fmt.Errorf("serve TRUST-DOMAIN AUDIENCE, or fetch TRUST-DOMAIN URL SERVER-ID BUNDLE-FILE"))
	}
}
