package secret

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/singleflight"

	"github.com/bakehouse-farm/bakehouse"
)

const (
	kmsScheme = "awskms"

	// A data key seals for this long, and this often, before KMS is asked for a
	// new one.
	sealAge  = 10 * time.Minute
	sealUses = 1 << 16
	// A data key that KMS unwrapped opens for this long without asking again: so
	// long it takes until a permission that was taken away is missed.
	openAge = 10 * time.Minute
	// openLimit is how many of those are remembered.
	openLimit = 4096
	// kmsLimit bounds one question, with its tries.
	kmsLimit = 20 * time.Second
)

// dataKeyContext binds data keys to what we use them for: KMS unwraps nothing
// else for us, and shows it in its audit log.
var dataKeyContext = map[string]string{"bakehouse": "data-key-v1"}

// A kmsKey is a key in AWS KMS, which never leaves it: KMS makes data keys and
// wraps them; the wrapped one travels with what was sealed. The caller needs
// kms:DescribeKey, kms:Decrypt and, to seal, kms:GenerateDataKey.
type kmsKey struct {
	url    string
	keyID  string // key ID, alias or ARN, as KMS takes it
	region string // empty: as AWS's own settings say

	now  func() time.Time
	open singleflight.Group

	mu      sync.Mutex
	client  *kms.Client
	id, arn string // known once KMS has told
	seal    dataKey
	uses    int
	opened  map[string]dataKey // by digest of the wrapped key
}

// A dataKey is one that KMS made or unwrapped.
type dataKey struct {
	key
	wrapped []byte
	since   time.Time
}

var arnForm = regexp.MustCompile(`^arn:[a-z0-9-]+:kms:([a-z0-9-]+):[0-9]+:(?:key|alias)/.+$`)

// newKMSKey reads awskms://KEY?region=REGION, where KEY is a key ID, an alias
// (alias/NAME) or, after a third slash, an ARN.
func newKMSKey(raw string) (*kmsKey, error) {
	const form = "awskms://alias/NAME?region=REGION, awskms://KEY-ID?region=REGION or awskms:///ARN"
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != kmsScheme || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "%q is not of the form %s", raw, form)
	}
	k := &kmsKey{url: raw, keyID: strings.TrimPrefix(u.Host+u.Path, "/"), now: time.Now, opened: map[string]dataKey{}}
	for name, values := range u.Query() {
		if name != "region" || len(values) != 1 {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "%s: parameter %q is not known: only region is", raw, name)
		}
		k.region = values[0]
	}
	arn := arnForm.FindStringSubmatch(k.keyID)
	switch {
	case k.keyID == "" || strings.ContainsAny(raw, " \t\r\n") || strings.HasPrefix(k.keyID, "arn:") && arn == nil:
		return nil, bakehouse.Errorf(bakehouse.Invalid, "%q is not of the form %s", raw, form)
	case arn != nil && k.region == "":
		k.region = arn[1]
	}
	return k, nil
}

// connect returns the client. k.mu is held.
func (k *kmsKey) connect(ctx context.Context) (*kms.Client, error) {
	if k.client != nil {
		return k.client, nil
	}
	var options []func(*config.LoadOptions) error
	if k.region != "" {
		options = append(options, config.WithRegion(k.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "key %s: AWS settings: %w", k.url, err)
	}
	if cfg.Region == "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "key %s: no region: write ?region=REGION behind it, or set AWS_REGION", k.url)
	}
	k.client = kms.NewFromConfig(cfg)
	return k.client, nil
}

// identify returns the ID of the key, which follows from its ARN: an alias, an
// ID and an ARN of one key give one ID.
func (k *kmsKey) identify(ctx context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.identifyLocked(ctx)
}

func (k *kmsKey) identifyLocked(ctx context.Context) (string, error) {
	if k.id != "" {
		return k.id, nil
	}
	client, err := k.connect(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, kmsLimit)
	defer cancel()
	out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k.keyID})
	if err != nil {
		return "", k.verdict("describe it", err)
	}
	k.arn = aws.ToString(out.KeyMetadata.Arn)
	sum := sha256.Sum256([]byte(k.arn))
	k.id = kmsID + hex.EncodeToString(sum[:6])
	return k.id, nil
}

// sealing returns the data key that seals for now.
func (k *kmsKey) sealing(ctx context.Context) (dataKey, error) {
	// Whoever comes while KMS is being asked waits for the same answer.
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seal.wrapped != nil && k.uses < sealUses && k.now().Sub(k.seal.since) < sealAge {
		k.uses++
		return k.seal, nil
	}
	id, err := k.identifyLocked(ctx)
	if err != nil {
		return dataKey{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, kmsLimit)
	defer cancel()
	// By ARN: an alias may have been pointed elsewhere meanwhile.
	out, err := k.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &k.arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: dataKeyContext,
	})
	if err != nil {
		return dataKey{}, k.verdict("generate a data key", err)
	}
	if len(out.CiphertextBlob) == 0 || len(out.CiphertextBlob) > maxWrapped || len(out.Plaintext) != keySize {
		return dataKey{}, fmt.Errorf("key %s: KMS answered with a data key of %d bytes, wrapped %d", k.url, len(out.Plaintext), len(out.CiphertextBlob))
	}
	made, err := newKey(id, out.Plaintext)
	if err != nil {
		return dataKey{}, err
	}
	k.seal, k.uses = dataKey{key: made, wrapped: out.CiphertextBlob, since: k.now()}, 1
	k.remember(k.seal)
	return k.seal, nil
}

// opening returns the data key that an envelope brings along.
func (k *kmsKey) opening(ctx context.Context, e envelope) (dataKey, error) {
	name := wrappedName(e.wrapped)
	k.mu.Lock()
	d, ok := k.opened[name]
	ok = ok && k.now().Sub(d.since) < openAge
	k.mu.Unlock()
	if ok {
		return d, nil
	}
	// Many payloads that were sealed together are opened together. Whoever asked
	// first may lose interest before the others.
	asked := k.open.DoChan(name, func() (any, error) { return k.unwrap(context.WithoutCancel(ctx), e) })
	select {
	case got := <-asked:
		if got.Err != nil {
			return dataKey{}, got.Err
		}
		return got.Val.(dataKey), nil
	case <-ctx.Done():
		return dataKey{}, context.Cause(ctx)
	}
}

func (k *kmsKey) unwrap(ctx context.Context, e envelope) (dataKey, error) {
	k.mu.Lock()
	client, arn := k.client, k.arn
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, kmsLimit)
	defer cancel()
	// The key is named, though KMS would find it: else whoever lets us use a key
	// of theirs could have us believe what they sealed.
	out, err := client.Decrypt(ctx, &kms.DecryptInput{
		CiphertextBlob: e.wrapped, KeyId: &arn, EncryptionContext: dataKeyContext,
	})
	var foreign *types.IncorrectKeyException
	var garbled *types.InvalidCiphertextException
	switch {
	case errors.As(err, &foreign), errors.As(err, &garbled):
		return dataKey{}, ErrDamaged
	case err != nil:
		return dataKey{}, k.verdict("unwrap a data key", err)
	case len(out.Plaintext) != keySize:
		return dataKey{}, ErrDamaged
	}
	made, err := newKey(e.id, out.Plaintext)
	if err != nil {
		return dataKey{}, err
	}
	d := dataKey{key: made, wrapped: append([]byte(nil), e.wrapped...), since: k.now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(d)
	return d, nil
}

func wrappedName(wrapped []byte) string {
	sum := sha256.Sum256(wrapped)
	return string(sum[:])
}

// remember keeps a data key for opening. k.mu is held.
func (k *kmsKey) remember(d dataKey) {
	if len(k.opened) >= openLimit {
		for name, old := range k.opened {
			if k.now().Sub(old.since) >= openAge {
				delete(k.opened, name)
			}
		}
	}
	for name := range k.opened {
		if len(k.opened) < openLimit {
			break
		}
		delete(k.opened, name) // any: it costs one question more
	}
	k.opened[wrappedName(d.wrapped)] = d
}

// verdict says what it means that KMS did not do what it was asked for.
func (k *kmsKey) verdict(what string, err error) error {
	kind := bakehouse.Trouble
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "AccessDeniedException", "DisabledException", "KMSInvalidStateException", "InvalidGrantTokenException",
			"UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken":
			kind = bakehouse.Denied
		case "NotFoundException":
			kind = bakehouse.NotFound
		case "InvalidKeyUsageException", "InvalidArnException", "ValidationException", "UnsupportedOperationException":
			kind = bakehouse.Invalid
		}
	}
	return bakehouse.Errorf(kind, "key %s: ask KMS to %s: %w", k.url, what, err)
}
