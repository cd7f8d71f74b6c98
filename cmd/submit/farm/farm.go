// Package farm is what submit sees of a farm: a Temporal server that remembers
// submissions, a blob store that holds their files and logs, and the key that
// both are encrypted with. It never talks to an agent.
package farm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"gocloud.dev/blob"

	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/timeline"
)

// Config says where a farm is.
type Config struct {
	// Address is the host:port of Temporal's frontend. Empty: as the TEMPORAL_*
	// variables and Temporal's own configuration file say, else localhost:7233.
	Address string
	// Store is the URL of the blob store. Empty: what needs it is refused.
	Store string
	// Key is the key file. Required.
	Key string
	// Plain asks for Address alone to count: neither the environment nor
	// Temporal's configuration file, which belong to other farms.
	Plain bool
	// Patience is how long to wait for Temporal to answer; 0 means 5 s.
	Patience time.Duration
}

// A Farm is a connection to a farm.
type Farm struct {
	// Address and Namespace are where Temporal was found.
	Address, Namespace string
	// Identity is this process, as Temporal records who started what.
	Identity string

	client client.Client
	data   converter.DataConverter
	keys   *secret.Keys
	url    string
	bucket *blob.Bucket
}

// Open connects to Temporal. The blob store is opened when it is needed.
func Open(ctx context.Context, c Config) (*Farm, error) {
	keys, err := loadKeys(c.Key)
	if err != nil {
		return nil, err
	}
	var options client.Options
	if !c.Plain {
		if options, err = envconfig.LoadDefaultClientOptions(); err != nil {
			return nil, fmt.Errorf("read TEMPORAL_* variables and configuration: %w", err)
		}
	}
	if c.Address != "" {
		options.HostPort = c.Address
	}
	if options.HostPort == "" {
		options.HostPort = client.DefaultHostPort
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	host, _ := os.Hostname()
	f := &Farm{
		Address: options.HostPort, Namespace: options.Namespace,
		Identity: fmt.Sprintf("submit-%d@%s-%s", os.Getpid(), host, rand.Text()[:8]),
		keys:     keys, data: secret.DataConverter(keys), url: c.Store,
	}
	options.Identity = f.Identity
	options.DataConverter = f.data
	options.FailureConverter = secret.FailureConverter(keys)
	options.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler)) // what matters is returned as errors
	patience := c.Patience
	if patience == 0 {
		patience = 5 * time.Second
	}
	dial, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f.client, err = client.DialContext(dial, options)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("no Temporal server answers at %s (name another with -address or TEMPORAL_ADDRESS, or bake on this machine with -local): %s", f.Address, silent(ctx, f.Address, err))
	}
	return f, nil
}

func loadKeys(path string) (*secret.Keys, error) {
	keys, err := secret.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no key file %s: submissions are encrypted with the key that the farm's agents have (copy it here, name it with -key or BAKEHOUSE_KEY, or make the farm's first with: submit key %s)", path, path)
	}
	return keys, err
}

// silent says why no server answers at an address: often it is no address.
func silent(ctx context.Context, address string, err error) string {
	host, _, serr := net.SplitHostPort(address)
	if serr != nil {
		return "it is not of the form host:port"
	}
	look, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, lerr := net.DefaultResolver.LookupHost(look, host); lerr != nil {
		return lerr.Error()
	}
	return unreachable(err)
}

// unreachable says why a server did not answer, without the layers of gRPC that
// repeat it.
func unreachable(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "dial tcp"); i >= 0 {
		text = strings.TrimRight(text[i:], `"`)
	}
	return text
}

// Close ends the connection. Builds go on.
func (f *Farm) Close() {
	if f.bucket != nil {
		_ = f.bucket.Close() // nothing is being written
	}
	f.client.Close()
}

// store opens the blob store once.
func (f *Farm) store(ctx context.Context) (*blob.Bucket, error) {
	if f.bucket != nil {
		return f.bucket, nil
	}
	if f.url == "" {
		return nil, errors.New("no blob store: name the farm's with -store or BAKEHOUSE_STORE (file:///folder, s3://bucket)")
	}
	if err := there(f.url); err != nil {
		return nil, err
	}
	b, err := bundle.OpenBucket(ctx, f.url)
	if err != nil {
		return nil, fmt.Errorf("%w (the farm's is named with -store or BAKEHOUSE_STORE)", err)
	}
	f.bucket = b
	return b, nil
}

// there makes sure that a store in a folder is there: one that is made here is
// not the one that the agents read.
func there(store string) error {
	u, err := url.Parse(store)
	if err != nil || u.Scheme != "file" {
		return nil // opening it tells
	}
	if _, err := os.Stat(u.Path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob store %s: there is no such folder on this computer (name the one that the farm's agents use with -store or BAKEHOUSE_STORE; computers that share no folder share an s3://bucket)", store)
	}
	return nil
}

// Bundles is where files, plans and values are kept.
func (f *Farm) Bundles(ctx context.Context) (*bundle.Store, error) {
	b, err := f.store(ctx)
	if err != nil {
		return nil, err
	}
	return bundle.New(b, f.keys), nil
}

// Logs is where what builds say is kept.
func (f *Farm) Logs(ctx context.Context) (*buildlog.Store, error) {
	b, err := f.store(ctx)
	if err != nil {
		return nil, err
	}
	return buildlog.New(b, f.keys), nil
}

// Timeline reads the timeline of a submission or a build.
func (f *Farm) Timeline(ctx context.Context, id string) (*timeline.Timeline, error) {
	return timeline.Read(ctx, f.client, f.data, id, "")
}
