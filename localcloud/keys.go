package localcloud

import (
	"crypto"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type createKeyInput struct {
	KeyName          string `q:",required"`
	KeyType          string
	KeyFormat        string
	TagSpecification []tagSpec
}

type createKeyOutput struct {
	Name        string `xml:"keyName"`
	Fingerprint string `xml:"keyFingerprint"`
	Material    string `xml:"keyMaterial,omitempty"`
	ID          string `xml:"keyPairId"`
	Tags        []tag  `xml:"tagSet>item"`
}

// key finds a key pair by its name.
func (c *call) key(name string) *state.KeyPair {
	for _, k := range state.List[state.KeyPair](c.Tx, c.region) {
		if k.Name == name {
			return k
		}
	}
	return nil
}

func (c *call) checkKeyName(name string) error {
	if c.key(name) != nil {
		return wire.Errorf("InvalidKeyPair.Duplicate", "The keypair '%s' already exists.", name)
	}
	if len(name) > 255 {
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter keyName is invalid: it is longer than 255 characters", name)
	}
	return nil
}

func createKey(c *call, in *createKeyInput) (*createKeyOutput, error) {
	if err := checkSpecs(in.TagSpecification, "key-pair"); err != nil {
		return nil, err
	}
	if err := c.checkKeyName(in.KeyName); err != nil {
		return nil, err
	}
	if in.KeyFormat != "" && in.KeyFormat != "pem" {
		return nil, wire.Errorf("UnsupportedOperation", "localcloud makes keys in pem format only, not %s", in.KeyFormat)
	}
	material, public, fingerprint, err := generate(in.KeyType)
	if err != nil {
		return nil, err
	}
	k := &state.KeyPair{
		Region: c.region, ID: state.NewID("key"), Name: in.KeyName, Type: keyType(public), Fingerprint: fingerprint,
		Public: authorized(public, in.KeyName), Created: c.now, Tags: tagged(in.TagSpecification, "key-pair"),
	}
	state.Put(c.Tx, k)
	return &createKeyOutput{k.Name, k.Fingerprint, material, k.ID, shown(k.Tags)}, nil
}

func authorized(k ssh.PublicKey, comment string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) + " " + strings.Map(oneLine, comment)
}

func oneLine(r rune) rune {
	if r < ' ' {
		return -1
	}
	return r
}

func keyType(k ssh.PublicKey) string {
	if k.Type() == ssh.KeyAlgoED25519 {
		return "ed25519"
	}
	return "rsa"
}

// generate makes a key as EC2 does: RSA of 2048 bits in PKCS#1, or Ed25519 in
// OpenSSH's format. EC2 fingerprints what it generated differently from what
// was imported: SHA-1 of the private key.
func generate(kind string) (material string, public ssh.PublicKey, fingerprint string, err error) {
	switch kind {
	case "", "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", nil, "", err
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return "", nil, "", err
		}
		public, err := ssh.NewPublicKey(&k.PublicKey)
		if err != nil {
			return "", nil, "", err
		}
		sum := sha1.Sum(der)
		block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
		return string(pem.EncodeToMemory(block)), public, colons(sum[:]), nil
	case "ed25519":
		pub, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", nil, "", err
		}
		block, err := ssh.MarshalPrivateKey(crypto.PrivateKey(k), "")
		if err != nil {
			return "", nil, "", err
		}
		public, err := ssh.NewPublicKey(pub)
		if err != nil {
			return "", nil, "", err
		}
		return string(pem.EncodeToMemory(block)), public, sha256Print(public), nil
	}
	return "", nil, "", wire.Errorf("InvalidParameterValue", "Value (%s) for parameter keyType is invalid: it must be rsa or ed25519", kind)
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

func sha256Print(k ssh.PublicKey) string {
	sum := sha256.Sum256(k.Marshal())
	return base64.StdEncoding.EncodeToString(sum[:])
}

type importKeyInput struct {
	KeyName           string `q:",required"`
	PublicKeyMaterial []byte `q:",required"`
	TagSpecification  []tagSpec
}

func importKey(c *call, in *importKeyInput) (*createKeyOutput, error) {
	if err := checkSpecs(in.TagSpecification, "key-pair"); err != nil {
		return nil, err
	}
	if err := c.checkKeyName(in.KeyName); err != nil {
		return nil, err
	}
	public, fingerprint, err := readPublic(in.PublicKeyMaterial)
	if err != nil {
		return nil, err
	}
	k := &state.KeyPair{
		Region: c.region, ID: state.NewID("key"), Name: in.KeyName, Type: keyType(public), Fingerprint: fingerprint,
		Public: authorized(public, in.KeyName), Created: c.now, Tags: tagged(in.TagSpecification, "key-pair"),
	}
	state.Put(c.Tx, k)
	return &createKeyOutput{Name: k.Name, Fingerprint: k.Fingerprint, ID: k.ID, Tags: shown(k.Tags)}, nil
}

// readPublic reads a public key in one of the forms that EC2 takes:
// authorized_keys, RFC 4716 is refused by name, base64 DER, PEM.
func readPublic(b []byte) (ssh.PublicKey, string, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		der := b
		if p, _ := pem.Decode(b); p != nil {
			der = p.Bytes
		} else if d, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b))); err == nil {
			der = d
		}
		k, err := x509.ParsePKIXPublicKey(der)
		if err == nil {
			public, err = ssh.NewPublicKey(k)
		}
		if err != nil {
			return nil, "", wire.Errorf("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
		}
	}
	switch public.Type() {
	case ssh.KeyAlgoED25519:
		return public, sha256Print(public), nil
	case ssh.KeyAlgoRSA:
		der, err := x509.MarshalPKIXPublicKey(public.(ssh.CryptoPublicKey).CryptoPublicKey())
		if err != nil {
			return nil, "", fmt.Errorf("fingerprint: %w", err)
		}
		sum := md5.Sum(der)
		return public, colons(sum[:]), nil
	}
	return nil, "", wire.Errorf("InvalidKey.Format", "Key is of type %s: EC2 takes ssh-rsa and ssh-ed25519", public.Type())
}

type describeKeysInput struct {
	KeyName          []string
	KeyPairId        []string //nolint:revive // EC2's name
	IncludePublicKey bool
	Filter           []filter.Filter
}

type keyItem struct {
	ID          string    `xml:"keyPairId"`
	Name        string    `xml:"keyName"`
	Type        string    `xml:"keyType"`
	Fingerprint string    `xml:"keyFingerprint"`
	Public      string    `xml:"publicKey,omitempty"`
	Created     wire.Time `xml:"createTime"`
	Tags        []tag     `xml:"tagSet>item"`
}

type describeKeysOutput struct {
	Keys []keyItem `xml:"keySet>item"`
}

func describeKeys(c *call, in *describeKeysInput) (*describeKeysOutput, error) {
	for _, name := range in.KeyName {
		if c.key(name) == nil {
			return nil, keySpecies.missing(name)
		}
	}
	list, err := selected(c, keySpecies, in.KeyPairId, in.Filter, filter.Fields[*state.KeyPair]{
		"key-name":    func(k *state.KeyPair) []string { return one(k.Name) },
		"key-pair-id": func(k *state.KeyPair) []string { return one(k.ID) },
		"fingerprint": func(k *state.KeyPair) []string { return one(k.Fingerprint) },
	}, func(k *state.KeyPair) map[string]string { return k.Tags })
	if err != nil {
		return nil, err
	}
	out := &describeKeysOutput{}
	for _, k := range list {
		if len(in.KeyName) > 0 && !slices.Contains(in.KeyName, k.Name) {
			continue
		}
		item := keyItem{k.ID, k.Name, k.Type, k.Fingerprint, "", wire.Time(k.Created), shown(k.Tags)}
		if in.IncludePublicKey {
			item.Public = k.Public
		}
		out.Keys = append(out.Keys, item)
	}
	return out, nil
}

type deleteKeyInput struct {
	KeyName   string
	KeyPairId string //nolint:revive // EC2's name
}

type deleteKeyOutput struct {
	Return bool   `xml:"return"`
	ID     string `xml:"keyPairId,omitempty"`
}

// deleteKey succeeds, as EC2 does, when there is no key of that name.
func deleteKey(c *call, in *deleteKeyInput) (*deleteKeyOutput, error) {
	var k *state.KeyPair
	switch {
	case in.KeyPairId != "":
		var err error
		if k, err = find[state.KeyPair](c, keySpecies, in.KeyPairId); err != nil {
			return nil, err
		}
	case in.KeyName != "":
		k = c.key(in.KeyName)
	default:
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
	}
	if k == nil {
		return &deleteKeyOutput{Return: true}, nil
	}
	state.Delete(c.Tx, k)
	return &deleteKeyOutput{true, k.ID}, nil
}
