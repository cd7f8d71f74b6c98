package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/local"
)

// A connection is which farm is meant.
type connection struct {
	local   bool
	state   string
	address string
	store   string
	key     string
}

func (n *connection) flags(f *flag.FlagSet) {
	f.BoolVar(&n.local, "local", false, "the farm is this machine: an embedded Temporal, localcloud and one agent, in the background")
	f.StringVar(&n.state, "state", "", "with -local, the `folder` that everything is kept in ($BAKEHOUSE_STATE, else /var/lib/bakehouse)")
	f.StringVar(&n.address, "address", "", "`host:port` of Temporal ($TEMPORAL_ADDRESS, else localhost:7233)")
	f.StringVar(&n.store, "store", "", "`URL` of the farm's blob store: file:///folder, s3://bucket ($BAKEHOUSE_STORE)")
	f.StringVar(&n.key, "key", "", "`file` with the farm's key ($BAKEHOUSE_KEY, else ~/.config/bakehouse/key)")
}

// check refuses flags that contradict each other.
func (n *connection) check() error {
	switch {
	case n.local && n.address != "":
		return errors.New("-local and -address name two farms: leave out one")
	case n.local && n.store != "":
		return errors.New("-local and -store name two farms: leave out one")
	case n.local && n.key != "":
		return errors.New("-local has a key of its own: leave out -key")
	case !n.local && n.state != "":
		return errors.New("-state is for -local only")
	}
	return nil
}

// localConfig is the set of processes that -local and -state mean.
func localConfig(state string, say func(string)) (local.Config, error) {
	if state == "" {
		state = local.DefaultState()
	}
	state, err := filepath.Abs(state)
	return local.Config{State: state, Say: say}, err
}

// open connects. With -local, start tells whether to start the processes that
// are not there, and say is told about it.
func (n *connection) open(ctx context.Context, c *console, start bool, say func(string)) (*farm.Farm, *local.Set, error) {
	if err := n.check(); err != nil {
		return nil, nil, err
	}
	if !n.local {
		f, err := farm.Open(ctx, farm.Config{
			Address: n.address,
			Store:   cmp.Or(n.store, c.getenv("BAKEHOUSE_STORE")),
			Key:     cmp.Or(n.key, c.getenv("BAKEHOUSE_KEY"), defaultKey()),
		})
		return f, nil, err
	}
	config, err := localConfig(n.state, say)
	if err != nil {
		return nil, nil, err
	}
	var set *local.Set
	if start {
		set, err = local.Start(ctx, config)
	} else {
		set, err = local.Join(config)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := farm.Open(ctx, farm.Config{Address: set.Address, Store: set.Store, Key: set.Key, Plain: true})
	return f, set, err
}

// again returns the flags by which another command reaches the same farm.
func (n *connection) again() string {
	var s string
	if n.local {
		s += " -local"
	}
	for _, f := range []struct{ name, value string }{{"state", n.state}, {"address", n.address}, {"store", n.store}, {"key", n.key}} {
		if f.value != "" {
			s += fmt.Sprintf(" -%s %s", f.name, f.value)
		}
	}
	return s
}

// pool returns the pool that is meant.
func (n *connection) pool(c *console, named string) string {
	switch {
	case named != "":
		return named
	case n.local:
		return local.Pool
	}
	return cmp.Or(c.getenv("BAKEHOUSE_POOL"), "default")
}

func defaultKey() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "bakehouse.key" // there is no home: it is looked for here
	}
	return filepath.Join(dir, "bakehouse", "key")
}
