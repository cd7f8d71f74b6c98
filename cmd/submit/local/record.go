package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Names of the programs, in the order in which they are started.
const (
	serverName = "server"
	cloudName  = "localcloud"
	agentName  = "agent"
)

var names = []string{serverName, cloudName, agentName}

// A record is what state.json holds: the processes by name.
type record map[string]*process

// complete tells whether all processes run.
func (r record) complete() bool {
	for _, name := range names {
		if p := r[name]; p == nil || !p.alive() {
			return false
		}
	}
	return true
}

// load reads state.json; where there is none, nothing is recorded.
func (c Config) load() (record, error) {
	data, err := os.ReadFile(c.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state of the local processes: %w%s", err, asRoot(err))
	}
	r := record{}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s is damaged (stop the processes that it should name, then remove it): %w", c.path("state.json"), err)
	}
	return r, nil
}

// asRoot is the way out when it is the user who may not: -local is root's.
func asRoot(err error) string {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return " (-local runs as root: run this with sudo, too)"
	}
	return ""
}

// save replaces state.json whole: whoever reads it without the lock sees the
// old or the new one.
func (c Config) save(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temp := c.path("state.json.new")
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state of the local processes: %w", err)
	}
	if err := os.Rename(temp, c.path("state.json")); err != nil {
		return fmt.Errorf("write state of the local processes: %w", err)
	}
	return nil
}
