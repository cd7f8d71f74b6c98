package wire_test

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type inner struct {
	Key   string
	Size  *int64
	Names []string `q:"Name"`
}

type input struct {
	Id     string `q:",required"` //nolint:revive // EC2's name
	Count  int
	Flag   *bool
	When   time.Time
	Data   []byte
	Things []inner `q:"Thing"`
	Nested struct{ Value *string }
}

func TestDecode(t *testing.T) {
	five, yes := int64(5), true
	for _, tt := range []struct {
		name, form string
		want       input
		unknown    []string
		code       string
	}{
		{"all", "Id=i&Count=2&Flag=true&When=2030-01-31T12:00:00Z&Data=aGk%3D&Action=X&Version=1&DryRun=true", input{
			Id: "i", Count: 2, Flag: &yes, When: time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC), Data: []byte("hi"),
		}, nil, ""},
		{"lists in order, gaps allowed", "Id=i&Thing.10.Key=b&Thing.2.Key=a&Thing.2.Size=5&Thing.2.Name.1=x&Thing.2.Name.2=y", input{
			Id: "i", Things: []inner{{"a", &five, []string{"x", "y"}}, {Key: "b"}},
		}, nil, ""},
		{"empty is absent", "Id=i&Count=&Flag=&Nested.Value=", input{Id: "i"}, nil, ""},
		{"unknown", "Id=i&Colour=red&Thing.1.Colour=blue&Nested.Other=x", input{Id: "i", Things: []inner{{}}}, []string{"Colour", "Nested.Other", "Thing.1.Colour"}, ""},
		{"missing", "Count=1", input{}, nil, "MissingParameter"},
		{"missing because empty", "Id=", input{}, nil, "MissingParameter"},
		{"no number", "Id=i&Count=two", input{}, nil, "InvalidParameterValue"},
		{"no truth", "Id=i&Flag=maybe", input{}, nil, "InvalidParameterValue"},
		{"no time", "Id=i&When=soon", input{}, nil, "InvalidParameterValue"},
		{"no base64", "Id=i&Data=%21", input{}, nil, "InvalidParameterValue"},
		{"no list", "Id=i&Thing.Key=a", input{}, nil, "InvalidParameterValue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			form, err := url.ParseQuery(tt.form)
			if err != nil {
				t.Fatal(err)
			}
			var got input
			unknown, err := wire.Decode(form, &got)
			if tt.code != "" {
				var e *wire.Error
				if !errors.As(err, &e) || e.Code != tt.code {
					t.Errorf("got %v, want %s", err, tt.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.unknown, unknown); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("Id=i&Thing.1.Name.1=x")
	f.Fuzz(func(_ *testing.T, form string) {
		if v, err := url.ParseQuery(form); err == nil {
			_, _ = wire.Decode(v, new(input)) // must not panic
		}
	})
}

func TestScope(t *testing.T) {
	const v4 = "AWS4-HMAC-SHA256 Credential="
	for _, tt := range []struct {
		name, header, query string
		want                wire.Scope
		ok                  bool
	}{
		{"header", v4 + "AK/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=00", "", wire.Scope{AccessKey: "AK", Region: "eu-west-1", API: "ec2"}, true},
		{"no space after comma", "AWS4-HMAC-SHA256 SignedHeaders=host,Credential=AK/20260101/us-east-1/sts/aws4_request,Signature=00", "", wire.Scope{AccessKey: "AK", Region: "us-east-1", API: "sts"}, true},
		{"slash in key", v4 + "A/K/20260101/eu-west-1/ec2/aws4_request", "", wire.Scope{AccessKey: "A/K", Region: "eu-west-1", API: "ec2"}, true},
		{"presigned", "", "AK/20260101/us-west-2/ec2/aws4_request", wire.Scope{AccessKey: "AK", Region: "us-west-2", API: "ec2"}, true},
		{"none", "", "", wire.Scope{}, false},
		{"basic", "Basic xyz", "", wire.Scope{}, false},
		{"short", v4 + "AK/20260101/ec2", "", wire.Scope{}, false},
		{"no region", v4 + "AK/20260101//ec2/aws4_request", "", wire.Scope{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/?X-Amz-Credential="+url.QueryEscape(tt.query), nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			got, err := wire.ScopeOf(r)
			if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != tt.ok {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// An answer names its fields as EC2 does, and an error is EC2's envelope.
func TestAnswer(t *testing.T) {
	out := struct {
		List []struct {
			ID string `xml:"id"`
		} `xml:"theSet>item"`
		When wire.Time `xml:"when"`
	}{When: wire.Time(time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC))}
	out.List = append(out.List, struct {
		ID string `xml:"id"`
	}{"a<b"})
	w := httptest.NewRecorder()
	if err := wire.Answer(w, "Describe", "r-1", &out); err != nil {
		t.Fatal(err)
	}
	want := `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<DescribeResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId>` +
		`<theSet><item><id>a&lt;b</id></item></theSet><when>2026-01-02T03:04:05.006Z</when></DescribeResponse>`
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		code   string
		status int
	}{{"InvalidAMIID.NotFound", 400}, {"DryRunOperation", 412}, {"AuthFailure", 401}, {"UnauthorizedOperation", 403}, {"InternalError", 500}, {"RequestLimitExceeded", 503}} {
		w := httptest.NewRecorder()
		var e *wire.Error
		if !errors.As(wire.Errorf(tt.code, "no %s", "more"), &e) {
			t.Fatal("not an Error")
		}
		e.Write(w, "ec2", "r-1")
		if !strings.HasSuffix(w.Body.String(), `<Response><Errors><Error><Code>`+tt.code+`</Code><Message>no more</Message></Error></Errors><RequestID>r-1</RequestID></Response>`) || w.Code != tt.status {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
