package lookup

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// text is one value of a secret as a string. Numbers are as they are written;
// what has parts is not one value.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	case nil:
		return "", fmt.Errorf("value is null, not a string")
	case []any:
		return "", fmt.Errorf("value is a list, not a string")
	}
	return "", fmt.Errorf("value is an object, not a string")
}
