package amazon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	//lint:ignore SA1019 no longer developed, but it works; its successor is smithy-go/tracing/smithyoteltracing.
	"go.opentelemetry.io/contrib/instrumentation/github.com/aws/aws-sdk-go-v2/otelaws"

	"github.com/bakehouse-farm/bakehouse"
)

// Config says what the builder and the data source work with. The zero value
// is for AWS as the environment of the process describes it.
type Config struct {
	// Options are applied to the SDK's configuration, after the settings of the
	// template, each time that credentials or endpoints are set up.
	Options []func(*aws.Config)
	// Getenv looks up AWS_MAX_ATTEMPTS, AWS_POLL_DELAY_SECONDS and
	// AWS_TIMEOUT_SECONDS; nil means os.Getenv.
	Getenv func(string) string
	// PublicIP finds the address that this computer is seen under from outside,
	// for temporary_security_group_source_public_ip; nil asks
	// https://checkip.amazonaws.com as Packer does.
	PublicIP func(ctx context.Context) (string, error)

	// connect stands in for AWS in tests.
	connect func(region string) *connection
}

func (c Config) getenv(name string) string {
	if c.Getenv == nil {
		return os.Getenv(name)
	}
	return c.Getenv(name)
}

// oneAnswer bounds a single HTTP request, its answer included. EC2 answers in
// seconds; what takes longer is a connection that has died.
const oneAnswer = 60 * time.Second

// A connection talks to one region with one set of credentials.
type connection struct {
	region    string
	ec2       ec2API
	iam       iamAPI
	sts       stsAPI
	images    *poller[imageState]
	instances *poller[instanceState]
	opened    time.Time
	// credentials are those of all the clients; nil in tests without AWS.
	credentials aws.CredentialsProvider
}

func newConnection(region string, api ec2API) *connection {
	c := &connection{region: region, ec2: api, opened: time.Now()}
	c.images = newPoller(c.describeImages)
	c.instances = newPoller(c.describeInstances)
	return c
}

// connections keeps the connections of an agent, so that builds with the same
// credentials share them, and with them their waiting.
type connections struct {
	config Config
	mu     sync.Mutex
	open   map[connectionKey]*connection
}

type connectionKey struct {
	access [sha256.Size]byte
	region string
}

// staleAfter is the age at which a connection is made anew: credentials may
// have been replaced in a file that is read only once.
const staleAfter = 15 * time.Minute

func newConnections(c Config) *connections {
	return &connections{config: c, open: map[connectionKey]*connection{}}
}

// to connects to a region; empty means the one that the settings, the
// environment or the profile name.
func (c *connections) to(ctx context.Context, a Access, region string) (*connection, error) {
	if c.config.connect != nil {
		if region == "" {
			region = a.Region
		}
		return c.config.connect(region), nil
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if region == "" {
		region = a.Region
	}
	key := connectionKey{sha256.Sum256(raw), region}
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.open[key]; conn != nil && time.Since(conn.opened) < staleAfter {
		return conn, nil
	}
	conn, err := c.config.dial(ctx, a, region)
	if err != nil {
		return nil, err
	}
	for k, old := range c.open {
		if time.Since(old.opened) >= staleAfter {
			delete(c.open, k)
		}
	}
	c.open[key] = conn
	c.open[connectionKey{key.access, conn.region}] = conn
	return conn, nil
}

// dial sets up the clients of one region. It does not talk to AWS.
func (c Config) dial(ctx context.Context, a Access, region string) (*connection, error) {
	cfg, err := config.LoadDefaultConfig(ctx, a.options(region)...)
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "load AWS configuration: %w", err)
	}
	otelaws.AppendMiddlewares(&cfg.APIOptions)
	for _, o := range c.Options {
		o(&cfg)
	}
	if cfg.Region == "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid,
			"no region: set region in the template, AWS_REGION in the agent's environment, or a region in the profile")
	}
	if a.AssumeRole != nil && a.AssumeRole.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), a.AssumeRole.RoleARN, a.AssumeRole.apply)
		cfg.Credentials = aws.NewCredentialsCache(role)
	}
	conn := newConnection(cfg.Region, ec2.NewFromConfig(cfg, func(o *ec2.Options) {
		if a.CustomEndpoint != "" {
			o.BaseEndpoint = aws.String(a.CustomEndpoint)
		}
	}))
	conn.credentials = cfg.Credentials
	conn.iam = iam.NewFromConfig(cfg)
	conn.sts = sts.NewFromConfig(cfg)
	return conn, nil
}

func (a Access) options(region string) []func(*config.LoadOptions) error {
	retries := a.MaxRetries
	if retries <= 0 {
		retries = 10
	}
	client := awshttp.NewBuildableClient().WithTimeout(oneAnswer)
	if a.InsecureSkipTLSVerify {
		client = client.WithTransportOptions(func(t *http.Transport) {
			if t.TLSClientConfig == nil {
				t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			t.TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // the template asks for it
		})
	}
	o := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = retries
				// An endpoint that nobody listens at is for the workflow to try
				// again; it can wait longer, and on another agent.
				o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(unreachable)}, o.Retryables...)
			})
		}),
	}
	if region != "" {
		o = append(o, config.WithRegion(region))
	}
	if a.Profile != "" {
		o = append(o, config.WithSharedConfigProfile(a.Profile))
	}
	if a.SharedCredentialsFile != "" {
		// Packer hands this file over as a config file; as what its name says it
		// works for both kinds.
		o = append(o, config.WithSharedCredentialsFiles([]string{a.SharedCredentialsFile}))
	}
	if a.AccessKey != "" {
		o = append(o, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(a.AccessKey, a.SecretKey, a.Token)))
	}
	if a.SkipMetadataAPICheck {
		o = append(o, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	return o
}

func (r *AssumeRole) apply(o *stscreds.AssumeRoleOptions) {
	o.RoleSessionName = r.SessionName
	if o.RoleSessionName == "" {
		o.RoleSessionName = "bakehouse"
	}
	if r.DurationSeconds > 0 {
		o.Duration = time.Duration(r.DurationSeconds) * time.Second
	}
	if r.ExternalID != "" {
		o.ExternalID = aws.String(r.ExternalID)
	}
	if r.Policy != "" {
		o.Policy = aws.String(r.Policy)
	}
	for _, arn := range r.PolicyARNs {
		o.PolicyARNs = append(o.PolicyARNs, ststypes.PolicyDescriptorType{Arn: aws.String(arn)})
	}
	for _, t := range tagList(r.Tags) {
		o.Tags = append(o.Tags, ststypes.Tag{Key: t.Key, Value: t.Value})
	}
	o.TransitiveTagKeys = r.TransitiveTagKeys
}
