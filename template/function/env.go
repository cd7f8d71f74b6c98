package function

import (
	"strings"

	"github.com/zclconf/go-cty/cty/function"
)

// InDefaults returns the one function that the default of a variable may call:
// env, which reads a variable of environ ("NAME=value" each); an empty string
// when it is not set.
func InDefaults(environ []string) map[string]function.Function {
	return map[string]function.Function{
		"env": stringFunc("key", func(name string) (string, error) { return Getenv(environ, name), nil }),
	}
}

// Getenv looks name up in environ as os.Getenv does in the environment.
func Getenv(environ []string, name string) string {
	for i := len(environ) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(environ[i], "="); ok && k == name {
			return v
		}
	}
	return ""
}
