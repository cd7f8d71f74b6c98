// Package http is the data source http: what a server answers to one request.
package http

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/bakehouse-farm/bakehouse"
)

// Settings are the arguments of http.
type Settings struct {
	// URL is asked. Required.
	URL string `json:"url"`
	// Method is GET when it is empty.
	Method         string            `json:"method"`
	RequestHeaders map[string]string `json:"request_headers"`
	RequestBody    string            `json:"request_body"`
}

// Outputs are the attributes of http.
type Outputs struct {
	// URL is the one that was asked.
	URL string `json:"url"`
	// Body is what was answered.
	Body string `json:"body"`
	// ResponseHeaders are the headers of the answer. Their name in a template is
	// Packer's. A header that came several times is joined by ", ".
	ResponseHeaders map[string]string `json:"request_headers"`
}

var methods = []string{
	http.MethodHead, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch,
}

// Settings returns a *Settings.
func (*DataSource) Settings() any { return new(Settings) }

// Outputs returns an Outputs.
func (*DataSource) Outputs() any { return Outputs{} }

// Check says what is wrong with settings, without asking anyone.
func (*DataSource) Check(settings json.RawMessage, unknown []string, _ bakehouse.Files) []bakehouse.Finding {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	var found []bakehouse.Finding
	if !slices.Contains(unknown, "url") {
		if message := wrongURL(s.URL); message != "" {
			found = append(found, bakehouse.Finding{Field: "url", Message: message, Hint: "Such as https://example.com/version.txt."})
		}
	}
	if s.Method != "" && !slices.Contains(methods, s.Method) {
		found = append(found, bakehouse.Finding{Field: "method", Message: "The `method` must be one of " + strings.Join(methods, ", ")})
	}
	for name, value := range s.RequestHeaders {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			found = append(found, bakehouse.Finding{
				Field: "request_headers", Message: fmt.Sprintf("Header %q cannot be sent", name),
				Hint: "A name has no spaces, a value no line ends.",
			})
		}
	}
	return found
}

// wrongURL says why s cannot be asked; empty when it can. It does not repeat s,
// which may hold a password.
func wrongURL(s string) string {
	if s == "" {
		return "The `url` must be specified"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "The `url` is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("The `url` must begin with http:// or https://, not with %q", u.Scheme)
	case u.Host == "":
		return "The `url` names no host"
	}
	return ""
}
