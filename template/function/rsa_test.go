package function

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// rsadecrypt reads what its key's public half has encrypted. The key is made
// here: none is to lie about in a repository.
func TestRSADecrypt(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 rsadecrypt reads just this padding, as Packer's does.
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	e, _ := world(t)
	v, err := eval(t, e, fmt.Sprintf("rsadecrypt(%q, %q)", base64.StdEncoding.EncodeToString(sealed), text))
	if err != nil || !v.RawEquals(cty.StringVal("message")) {
		t.Errorf("%#v, %v", v, err)
	}
}
