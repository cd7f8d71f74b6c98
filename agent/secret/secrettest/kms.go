// Package secrettest is for the tests of packages that use keys.
package secrettest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// KMS starts a fake of AWS KMS that knows one key, points AWS's settings at it
// for the length of the test, and returns the key's URL. Tests of what KMS
// itself does ask moto (agent/secret).
func KMS(t *testing.T) (url string) {
	t.Helper()
	block, err := aes.NewCipher([]byte(rand.Text()[:16]))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/fake"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			CiphertextBlob    []byte
			EncryptionContext map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		aad, _ := json.Marshal(in.EncryptionContext)
		var out any
		switch strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.") {
		case "DescribeKey":
			out = map[string]any{"KeyMetadata": map[string]string{"Arn": arn, "KeyId": "fake"}}
		case "GenerateDataKey":
			key := make([]byte, 32)
			rand.Read(key)
			out = map[string]any{"KeyId": arn, "Plaintext": key, "CiphertextBlob": aead.Seal(nil, nil, key, aad)}
		case "Decrypt":
			key, err := aead.Open(nil, nil, in.CiphertextBlob, aad)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"__type":"InvalidCiphertextException"}`)
				return
			}
			out = map[string]any{"KeyId": arn, "Plaintext": key}
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	return "awskms://fake?region=eu-central-1"
}
