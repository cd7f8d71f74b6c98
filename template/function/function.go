// Package function holds the functions that HCL templates may call.
//
// Those that would look at the clock, at random numbers or at the disk take
// what they see from an Env, so that the same template gives the same values
// wherever and whenever it is evaluated.
package function

import (
	"time"

	"github.com/hashicorp/go-cty-funcs/collection"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// An Env is the world as functions see it.
type Env struct {
	// Files finds local files.
	Files bakehouse.Files
	// Base is the template's folder, as the user wrote it: relative names of
	// files start there.
	Base string
	// Time is now. Zero means that it is not known yet: functions that tell the
	// time then return unknown values.
	Time time.Time
	// Seed is what random values are derived from; see Random.
	Seed string
	// Reads is told the name of each file and folder that a function reads, in
	// a form that Files understands. May be nil.
	Reads func(name string)
	// Marked is told each marked value that a function returns: what has been
	// made from something sensitive is sensitive in its new form, too. May be nil.
	Marked func(cty.Value)
	// Budget bounds what functions do; nil bounds single values only.
	Budget *limit.Budget
	// Ask answers the functions that ask a server (vault, consul_key,
	// aws_secretsmanager, aws_secretsmanager_raw), by the function's name and its
	// arguments, which are strings, perhaps unknown or marked, the key of
	// aws_secretsmanager perhaps null. It returns a string, perhaps unknown,
	// marked if it is secret; it need not repeat the arguments' marks. Its error
	// must not tell a marked argument. Nil makes them fail.
	Ask func(function string, args []cty.Value) (cty.Value, error)
}

// All returns every function of Packer's by its name.
func All(e Env) map[string]function.Function {
	f := pure()
	for name, fn := range e.files() {
		f[name] = fn
	}
	f["templatefile"] = e.templateFile(f)
	for name, fn := range e.clock() {
		f[name] = fn
	}
	for name, fn := range e.Random("") {
		f[name] = fn
	}
	for name, fn := range e.remote() {
		f[name] = fn
	}
	for name, fn := range f {
		f[name] = bounded(name, fn, e.Budget, e.Marked)
	}
	// These look at their arguments' expressions and pass values on as they are.
	f["try"] = tryfunc.TryFunc
	f["can"] = tryfunc.CanFunc
	f["convert"] = e.convert()
	return f
}

// pure are the functions whose results depend on their arguments alone (and
// bcrypt, whose salt nobody can fix).
func pure() map[string]function.Function {
	return map[string]function.Function{
		"abs":                  stdlib.AbsoluteFunc,
		"alltrue":              allTrue,
		"anytrue":              anyTrue,
		"base64decode":         encoding.Base64DecodeFunc,
		"base64encode":         encoding.Base64EncodeFunc,
		"base64gzip":           base64Gzip,
		"bcrypt":               crypto.BcryptFunc,
		"ceil":                 stdlib.CeilFunc,
		"chomp":                stdlib.ChompFunc,
		"chunklist":            stdlib.ChunklistFunc,
		"cidrhost":             cidrHost,
		"cidrnetmask":          cidrNetmask,
		"cidrsubnet":           cidrSubnet,
		"cidrsubnets":          cidrSubnets,
		"coalesce":             collection.CoalesceFunc,
		"coalescelist":         stdlib.CoalesceListFunc,
		"compact":              stdlib.CompactFunc,
		"concat":               stdlib.ConcatFunc,
		"contains":             stdlib.ContainsFunc,
		"csvdecode":            stdlib.CSVDecodeFunc,
		"distinct":             stdlib.DistinctFunc,
		"element":              stdlib.ElementFunc,
		"endswith":             endsWith,
		"flatten":              stdlib.FlattenFunc,
		"floor":                stdlib.FloorFunc,
		"format":               stdlib.FormatFunc,
		"formatdate":           stdlib.FormatDateFunc,
		"formatlist":           stdlib.FormatListFunc,
		"indent":               stdlib.IndentFunc,
		"index":                indexOf,
		"join":                 stdlib.JoinFunc,
		"jsondecode":           stdlib.JSONDecodeFunc,
		"jsonencode":           stdlib.JSONEncodeFunc,
		"keys":                 stdlib.KeysFunc,
		"length":               length,
		"log":                  stdlib.LogFunc,
		"lookup":               stdlib.LookupFunc,
		"lower":                stdlib.LowerFunc,
		"max":                  stdlib.MaxFunc,
		"md5":                  crypto.Md5Func,
		"merge":                stdlib.MergeFunc,
		"min":                  stdlib.MinFunc,
		"parseint":             stdlib.ParseIntFunc,
		"pow":                  stdlib.PowFunc,
		"range":                stdlib.RangeFunc,
		"regex":                stdlib.RegexFunc,
		"regex_replace":        stdlib.RegexReplaceFunc,
		"regexall":             stdlib.RegexAllFunc,
		"replace":              stdlib.ReplaceFunc,
		"reverse":              stdlib.ReverseListFunc,
		"rfc3339_parse":        rfc3339Parse,
		"rsadecrypt":           crypto.RsaDecryptFunc,
		"setintersection":      stdlib.SetIntersectionFunc,
		"setproduct":           stdlib.SetProductFunc,
		"setunion":             stdlib.SetUnionFunc,
		"sha1":                 crypto.Sha1Func,
		"sha256":               crypto.Sha256Func,
		"sha512":               crypto.Sha512Func,
		"signum":               stdlib.SignumFunc,
		"slice":                stdlib.SliceFunc,
		"sort":                 stdlib.SortFunc,
		"split":                stdlib.SplitFunc,
		"startswith":           startsWith,
		"strcontains":          strContains,
		"strrev":               stdlib.ReverseFunc,
		"substr":               stdlib.SubstrFunc,
		"sum":                  sum,
		"textdecodebase64":     textDecodeBase64,
		"textencodebase64":     textEncodeBase64,
		"timeadd":              stdlib.TimeAddFunc,
		"title":                stdlib.TitleFunc,
		"trim":                 stdlib.TrimFunc,
		"trimprefix":           stdlib.TrimPrefixFunc,
		"trimspace":            stdlib.TrimSpaceFunc,
		"trimsuffix":           stdlib.TrimSuffixFunc,
		"unix_timestamp_parse": unixParse,
		"upper":                stdlib.UpperFunc,
		"urlencode":            encoding.URLEncodeFunc,
		"uuidv5":               uuid.V5Func,
		"values":               stdlib.ValuesFunc,
		"yamldecode":           ctyyaml.YAMLDecodeFunc,
		"yamlencode":           ctyyaml.YAMLEncodeFunc,
		"zipmap":               stdlib.ZipmapFunc,
	}
}
