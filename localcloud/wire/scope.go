package wire

import (
	"net/http"
	"strings"
)

// A Scope is what a signature says it is for. Signatures are not verified:
// whoever reaches the endpoint may use it.
type Scope struct {
	AccessKey string
	Region    string
	API       string // "ec2", "sts", "iam"
}

// ScopeOf reads the scope of a request's version 4 signature, from its header
// or from a presigned URL. A request without one is an AuthFailure.
func ScopeOf(r *http.Request) (Scope, error) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if auth := r.Header.Get("Authorization"); auth != "" {
		rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 ")
		if !ok {
			return Scope{}, Errorf("AuthFailure", "localcloud reads version 4 signatures only (AWS4-HMAC-SHA256)")
		}
		for part := range strings.SplitSeq(rest, ",") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(part), "Credential="); ok {
				credential = v
			}
		}
	}
	if credential == "" {
		return Scope{}, Errorf("AuthFailure", "The request is not signed: localcloud needs the region that a signature names; any access key and secret will do")
	}
	p := strings.Split(credential, "/")
	if len(p) < 5 || p[len(p)-1] != "aws4_request" || p[len(p)-3] == "" || p[len(p)-2] == "" {
		return Scope{}, Errorf("AuthFailure", "The credential %q is not KEY/DATE/REGION/SERVICE/aws4_request", credential)
	}
	return Scope{
		AccessKey: strings.Join(p[:len(p)-4], "/"),
		Region:    p[len(p)-3],
		API:       p[len(p)-2],
	}, nil
}
