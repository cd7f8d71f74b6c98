package lookup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/bakehouse-farm/bakehouse"
)

// SecretsManager implements datasources.Lookup.
func (l *Lookup) SecretsManager(ctx context.Context, name, key string) (string, error) {
	whole, err := l.SecretsManagerRaw(ctx, name)
	if err != nil {
		return "", err
	}
	members, ok := object(whole)
	switch {
	case !ok:
		return whole, nil
	case key == "" && len(members) == 1:
		for key = range members { // the only one
		}
	case key == "":
		return "", bakehouse.Errorf(bakehouse.Invalid, "secrets manager: %s does not have one value: name the key, %s", name, keys(members))
	}
	v, ok := members[key]
	if !ok {
		return "", bakehouse.Errorf(bakehouse.NotFound, "secrets manager: %s has no key %q: %s", name, key, keys(members))
	}
	value, err := text(v)
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "secrets manager: key %q of %s: %w", key, name, err)
	}
	return value, nil
}

// SecretsManagerRaw implements datasources.Lookup.
func (l *Lookup) SecretsManagerRaw(ctx context.Context, name string) (string, error) {
	within, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	c, err := l.secretsManager.get(func() (*secretsmanager.Client, error) { return openSecretsManager(within) })
	if err != nil {
		return "", failed(ctx, bakehouse.KindOf(err), err, "secrets manager")
	}
	s, err := c.GetSecretValue(within, &secretsmanager.GetSecretValueInput{SecretId: &name})
	if err != nil {
		return "", failed(ctx, awsKind(err), err, "secrets manager: read %s in %s", name, c.Options().Region)
	}
	if s.SecretString == nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "secrets manager: %s is binary, not text", name)
	}
	return *s.SecretString, nil
}

// openSecretsManager makes a client. It does not talk to AWS.
func openSecretsManager(ctx context.Context) (*secretsmanager.Client, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "no region: set AWS_REGION in the environment of the agent, or a region in its profile")
	}
	return secretsmanager.NewFromConfig(cfg), nil
}

// object reads a secret that is a JSON object; any other is plain text.
func object(s string) (map[string]any, bool) {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil || m == nil {
		return nil, false
	}
	_, err := d.Token()
	return m, errors.Is(err, io.EOF)
}

// awsKinds says what the error codes of Secrets Manager, and of AWS before it,
// mean where their HTTP status does not tell. Expired credentials are trouble:
// they come from a chain that renews them, perhaps on another agent.
var awsKinds = map[string]bakehouse.Kind{
	"ResourceNotFoundException":           bakehouse.NotFound,
	"AccessDeniedException":               bakehouse.Denied,
	"AccessDenied":                        bakehouse.Denied,
	"UnrecognizedClientException":         bakehouse.Denied,
	"InvalidClientTokenId":                bakehouse.Denied,
	"InvalidSignatureException":           bakehouse.Denied,
	"SignatureDoesNotMatch":               bakehouse.Denied,
	"MissingAuthenticationToken":          bakehouse.Denied,
	"MissingAuthenticationTokenException": bakehouse.Denied,
	"IncompleteSignature":                 bakehouse.Denied,
	"OptInRequired":                       bakehouse.Denied,
	"DecryptionFailure":                   bakehouse.Denied, // its KMS key may not be used
	"ExpiredToken":                        bakehouse.Trouble,
	"ExpiredTokenException":               bakehouse.Trouble,
	"RequestExpired":                      bakehouse.Trouble,
}

func awsKind(err error) bakehouse.Kind {
	var api smithy.APIError
	if errors.As(err, &api) {
		if k, ok := awsKinds[api.ErrorCode()]; ok {
			return k
		}
		if _, ok := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; ok {
			return bakehouse.Trouble
		}
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() >= 300 {
		return statusKind(answer.HTTPStatusCode())
	}
	return wireKind(err)
}
