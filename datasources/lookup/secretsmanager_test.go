package lookup

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/bakehouse-farm/bakehouse"
)

func awsAt(url string) map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_REGION": "eu-west-1",
		"AWS_MAX_ATTEMPTS": "1", "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cr3t-key",
	}
}

// Against moto, which knows Secrets Manager from others than us.
func TestSecretsManager(t *testing.T) {
	moto := program(t, "MOTO_SERVER", "moto", "bin", "moto_server")
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	start(t, exec.Command(moto, "-H", "127.0.0.1", "-p", port), func() bool {
		resp, err := http.Get("http://" + address + "/moto-api/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
	environment(t, awsAt("http://"+address))
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := secretsmanager.NewFromConfig(cfg)
	create := func(in *secretsmanager.CreateSecretInput) string {
		t.Helper()
		out, err := c.CreateSecret(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(out.ARN)
	}
	secrets := map[string]string{
		"one": `{"password": "s3cr3t-one"}`, "two": `{"user": "admin", "password": "s3cr3t-two", "port": 5432, "share": 0.25, "big": 12345678901234567890, "on": true, "parts": {"x": "s3cr3t"}, "none": null}`,
		"plain": "s3cr3t-plain", "pin": "123456", "list": `["s3cr3t"]`, "nothing": "{}", "twice": `{"a": "s3cr3t"} {"b": 1}`,
	}
	arns := map[string]string{}
	for name, text := range secrets {
		arns[name] = create(&secretsmanager.CreateSecretInput{Name: aws.String(name), SecretString: aws.String(text)})
	}
	create(&secretsmanager.CreateSecretInput{Name: aws.String("binary"), SecretBinary: []byte{0, 1, 2}})
	create(&secretsmanager.CreateSecretInput{Name: aws.String("deleted"), SecretString: aws.String("s3cr3t")})
	if _, err := c.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: aws.String("deleted")}); err != nil {
		t.Fatal(err)
	}

	const one, raw = "aws_secretsmanager", "aws_secretsmanager_raw"
	tests := []struct {
		function, name, key string
		want                outcome
	}{
		{one, "one", "", outcome{value: "s3cr3t-one"}},
		{one, "one", "password", outcome{value: "s3cr3t-one"}},
		{one, arns["one"], "password", outcome{value: "s3cr3t-one"}},
		{one, "one", "user", outcome{kind: bakehouse.NotFound, words: []string{"one", `"user"`, `"password"`}}},
		{one, "two", "user", outcome{value: "admin"}},
		{one, "two", "port", outcome{value: "5432"}},
		{one, "two", "share", outcome{value: "0.25"}},
		{one, "two", "big", outcome{value: "12345678901234567890"}},
		{one, "two", "on", outcome{value: "true"}},
		{one, "two", "parts", outcome{kind: bakehouse.Invalid, words: []string{`"parts"`, "object"}}},
		{one, "two", "none", outcome{kind: bakehouse.Invalid, words: []string{`"none"`, "null"}}},
		{one, "two", "", outcome{kind: bakehouse.Invalid, words: []string{"two", `"password"`, `"user"`}}},
		{one, "nothing", "", outcome{kind: bakehouse.Invalid, words: []string{"nothing", "none"}}},
		{one, "plain", "", outcome{value: "s3cr3t-plain"}},
		{one, "plain", "any", outcome{value: "s3cr3t-plain"}},
		{one, "pin", "", outcome{value: "123456"}},
		{one, "list", "", outcome{value: `["s3cr3t"]`}},
		{one, "twice", "", outcome{value: secrets["twice"]}},
		{one, "binary", "", outcome{kind: bakehouse.Invalid, words: []string{"binary", "not text"}}},
		{one, "nowhere", "", outcome{kind: bakehouse.NotFound, words: []string{"nowhere", "eu-west-1"}}},
		{one, "deleted", "", outcome{kind: bakehouse.Invalid, words: []string{"deleted"}}},
		{raw, "two", "", outcome{value: secrets["two"]}},
		{raw, "plain", "", outcome{value: "s3cr3t-plain"}},
		{raw, "binary", "", outcome{kind: bakehouse.Invalid, words: []string{"binary"}}},
		{raw, "nowhere", "", outcome{kind: bakehouse.NotFound, words: []string{"nowhere"}}},
	}
	l := New()
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.function, " ", tt.name, " ", tt.key), func(t *testing.T) {
			value, err := ask(ctx, l, tt.function, tt.name, tt.key)
			tt.want.check(t, value, err)
		})
	}
}

func TestSecretsManagerInTrouble(t *testing.T) {
	code := func(c string) string { return fmt.Sprintf(`{"__type":%q,"message":"because of it"}`, c) }
	tests := []struct {
		name   string
		status int
		body   string
		want   outcome
	}{
		{"not allowed", 400, code("AccessDeniedException"), outcome{kind: bakehouse.Denied, words: []string{"db", "because of it"}}},
		{"not known", 400, code("UnrecognizedClientException"), outcome{kind: bakehouse.Denied}},
		{"key not allowed", 400, code("DecryptionFailure"), outcome{kind: bakehouse.Denied}},
		{"expired", 400, code("ExpiredTokenException"), outcome{kind: bakehouse.Trouble}},
		{"throttled", 400, code("ThrottlingException"), outcome{kind: bakehouse.Trouble}},
		{"broken", 500, code("InternalServiceError"), outcome{kind: bakehouse.Trouble}},
		{"wrong", 400, code("ValidationException"), outcome{kind: bakehouse.Invalid}},
		{"throttled otherwise", 429, code("SomethingNew"), outcome{kind: bakehouse.Trouble}},
		{"deleted", 400, code("InvalidRequestException"), outcome{kind: bakehouse.Invalid, words: []string{"because of it"}}},
		{"not Secrets Manager", 400, "<Response><Errors><Error><Code>InvalidAction</Code></Error></Errors></Response>", outcome{kind: bakehouse.Invalid}},
		{"redirected", 301, "", outcome{kind: bakehouse.Trouble}},
		{"proxy", 502, "<html>", outcome{kind: bakehouse.Trouble}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := always(t, tt.status, tt.body)
			environment(t, awsAt(url))
			value, err := New().SecretsManager(context.Background(), "db", "")
			tt.want.check(t, value, err)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		environment(t, awsAt("http://"+freeAddress(t)))
		value, err := New().SecretsManager(context.Background(), "db", "")
		outcome{kind: bakehouse.Trouble, words: []string{"db", "refused"}}.check(t, value, err)
	})
	t.Run("no region", func(t *testing.T) {
		environment(t, awsAt("http://"+freeAddress(t)))
		t.Setenv("AWS_REGION", "")
		value, err := New().SecretsManager(context.Background(), "db", "")
		outcome{kind: bakehouse.Invalid, words: []string{"AWS_REGION"}}.check(t, value, err)
	})
}
