package sandbox

import (
	"errors"
	"io"
	"net/netip"
)

func openEgress(pid int, own netip.Addr) (io.Closer, error) { return nil, errors.New("not there yet") }
