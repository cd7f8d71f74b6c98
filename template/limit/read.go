package limit

import (
	"fmt"
	"io"
	"os"
)

// ReadFile is os.ReadFile for files of at most most bytes. The name may be that
// of a pipe, which ends who knows when.
func ReadFile(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(b) > most {
		return nil, fmt.Errorf("it has more than the %d bytes that it may have here", most)
	}
	return b, err
}
