package wire

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decode reads the parameters of a request into the struct that in points to,
// and returns the names of the parameters that the struct has no place for.
//
// A field is called by its tag q, or else by its own name. Slices are numbered
// from 1 (Name.1, Name.2.Key), structs are dotted, pointers stay nil when
// nothing is said about them, []byte is base64. q:"Name,required" must be there.
// A parameter that is the empty string is absent: SDKs send those for what the
// caller left out.
func Decode(form url.Values, in any) (unknown []string, err error) {
	d := decoder{form: make(map[string]string, len(form)), used: map[string]bool{}}
	for k, v := range form {
		if len(v) > 0 && v[0] != "" {
			d.form[k] = v[0]
		}
	}
	if err := d.structure("", reflect.ValueOf(in).Elem()); err != nil {
		return nil, err
	}
	for k := range d.form {
		if !d.used[k] && !envelope(k) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	return unknown, nil
}

// envelope tells whether a parameter belongs to the protocol, not the action.
func envelope(k string) bool {
	switch k {
	case "Action", "Version", "DryRun", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp", "Expires":
		return true
	}
	return strings.HasPrefix(k, "X-Amz-")
}

type decoder struct {
	form map[string]string
	used map[string]bool
}

func (d *decoder) structure(prefix string, v reflect.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			if err := d.structure(prefix, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		name, opt, _ := strings.Cut(f.Tag.Get("q"), ",")
		if name == "" {
			name = f.Name
		}
		name = prefix + name
		if opt == "required" && !d.has(name) {
			return Errorf("MissingParameter", "The request must contain the parameter %s", name)
		}
		if err := d.value(name, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether anything is said about a name.
func (d *decoder) has(name string) bool {
	if _, ok := d.form[name]; ok {
		return true
	}
	for k := range d.form {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

func (d *decoder) value(name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !d.has(name) {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(name, v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return d.scalar(name, v)
		}
		return d.structure(name+".", v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return d.scalar(name, v)
		}
		return d.list(name, v)
	default:
		return d.scalar(name, v)
	}
}

func (d *decoder) list(name string, v reflect.Value) error {
	var numbers []int
	for k := range d.form {
		rest, ok := strings.CutPrefix(k, name+".")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(first)
		if err != nil || n < 0 {
			return Errorf("InvalidParameterValue", "%s is not a list member: %s.1, %[2]s.2 and so on are", k, name)
		}
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(name+"."+strconv.Itoa(n), e); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	}
	return nil
}

func (d *decoder) scalar(name string, v reflect.Value) error {
	s, ok := d.form[name]
	if !ok {
		return nil
	}
	d.used[name] = true
	bad := func(kind string) error {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be %s", s, name, kind)
	}
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return bad("a time such as 2030-01-31T12:00:00Z")
		}
		*p = t
		return nil
	case *[]byte:
		b, err := base64.StdEncoding.DecodeString(strings.Map(notSpace, s))
		if err != nil {
			return bad("base64")
		}
		*p = b
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(s))
		if err != nil {
			return bad("true or false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return bad("a whole number")
		}
		v.SetInt(n)
	default:
		panic("wire: no parameter can be of type " + v.Type().String())
	}
	return nil
}

func notSpace(r rune) rune {
	if r == '\n' || r == '\r' || r == ' ' {
		return -1
	}
	return r
}
