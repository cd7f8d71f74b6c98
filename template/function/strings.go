package function

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
)

var (
	startsWith  = predicate("prefix", strings.HasPrefix)
	endsWith    = predicate("suffix", strings.HasSuffix)
	strContains = predicate("substr", strings.Contains)
)

func predicate(second string, f func(s, x string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}, {Name: second, Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var base64Gzip = stringFunc("str", func(s string) (string, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
})

var textEncodeBase64 = text(func(s string, e encoding.Encoding) (string, error) {
	b, err := e.NewEncoder().String(s)
	if err != nil {
		return "", function.NewArgErrorf(0, "the string contains characters that the encoding cannot represent")
	}
	return base64.StdEncoding.EncodeToString([]byte(b)), nil
})

var textDecodeBase64 = text(func(s string, e encoding.Encoding) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", function.NewArgErrorf(0, "the string is not valid base64")
	}
	b, err = e.NewDecoder().Bytes(b)
	if err != nil {
		return "", function.NewArgErrorf(0, "the bytes are not valid in the encoding")
	}
	return string(b), nil
})

// text is a function of a string and the IANA name of an encoding.
func text(f func(string, encoding.Encoding) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "string", Type: cty.String}, {Name: "encoding", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			e, err := ianaindex.IANA.Encoding(args[1].AsString())
			if err != nil || e == nil {
				return cty.NilVal, function.NewArgErrorf(1, "%q is not a supported IANA encoding name", args[1].AsString())
			}
			s, err := f(args[0].AsString(), e)
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(s), nil
		},
	})
}
