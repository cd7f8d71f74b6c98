package datasources

import "context"

// A Lookup answers the functions of templates that ask a server for one value:
// vault, consul_key, aws_secretsmanager and aws_secretsmanager_raw. It only reads.
//
// Its errors name what was asked for, never what was answered. They carry a
// final bakehouse.Kind when asking again is pointless.
type Lookup interface {
	// Vault returns the value of key in the secret at path, which is a path of
	// Vault's API: "secret/data/db" where version 2 of the KV engine is mounted
	// at secret.
	Vault(ctx context.Context, path, key string) (string, error)
	// ConsulKey returns the value at path in Consul's key-value store.
	ConsulKey(ctx context.Context, path string) (string, error)
	// SecretsManager returns the value of key in a secret of AWS Secrets Manager,
	// given by name or ARN. An empty key means the only one there is. A secret
	// that is no JSON object is its own value, whatever the key.
	SecretsManager(ctx context.Context, name, key string) (string, error)
	// SecretsManagerRaw returns the whole text of a secret.
	SecretsManagerRaw(ctx context.Context, name string) (string, error)
}
