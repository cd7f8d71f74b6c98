// Package localcloudtest starts a localcloud inside a test and takes it down
// again, with everything that it ran.
//
// Instances are this test's own executable started again, so the test package
// needs
//
//	func TestMain(m *testing.M) { localcloudtest.Main(m) }
package localcloudtest

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// A Cloud is a localcloud that serves at URL.
type Cloud struct {
	*localcloud.Cloud
	URL string
	// Dir is its state folder.
	Dir string
}

// Main runs the tests of a package, or an instance if that is what this process
// was started for.
func Main(m *testing.M) {
	if sandbox.Main() {
		return
	}
	os.Exit(m.Run())
}

// Start starts a cloud with real instances. Without root it skips the test. At
// the end of the test nothing of the cloud is left.
func Start(t testing.TB) *Cloud {
	t.Helper()
	return StartWith(t, localcloud.Config{})
}

// StartWith is Start with settings. Where they leave out the folder or the
// host, they are as Start makes them.
func StartWith(t testing.TB, c localcloud.Config) *Cloud {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if c.Host == nil {
		if os.Geteuid() != 0 {
			t.Skip("instances of localcloud need root")
		}
		host, err := sandbox.New(t.Context(), sandbox.Config{Dir: filepath.Join(c.Dir, "sandbox"), Log: c.Log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := host.Close(); err != nil {
				t.Error(err)
			}
			nothingMounted(t, c.Dir)
		})
		c.Host = host
	}
	cloud, err := localcloud.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := cloud.Reset(ctx); err != nil {
			t.Error(err)
		}
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Cloud{cloud, server.URL, c.Dir}
}

// Config returns the settings with which AWS clients reach the cloud in a
// region.
func (c *Cloud) Config(region string) aws.Config { return Config(c.URL, region) }

// Config returns the settings with which AWS clients reach a localcloud.
func Config(url, region string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(url),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		// Refusals are answers here: no client should ask twice and wait.
		RetryMaxAttempts: 1,
	}
}

// nothingMounted fails the test when a file system is still mounted below dir.
func nothingMounted(t testing.TB, dir string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
		return
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " "+dir+"/") {
			t.Errorf("left behind: mount %s", line)
		}
	}
}
