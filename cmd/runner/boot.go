//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// A bootID names one boot of the machine.
type bootID struct {
	Kernel string `json:"kernel"`
	// Init is the start time of process 1. Containers share the kernel's ID, but
	// get a new first process when they are started again. It is zero where
	// /proc does not show that process to this user.
	Init uint64 `json:"init,omitempty"`
}

func readBootID(file string) (bootID, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return bootID{}, fmt.Errorf("find out which boot this is: %w", err)
	}
	id := bootID{Kernel: strings.TrimSpace(string(data))}
	if p, ok := proc.Read(1); ok {
		id.Init = p.Start
	}
	return id, nil
}

// same tells whether the machine has not been booted between a and b.
func (a bootID) same(b bootID) bool {
	return a.Kernel == b.Kernel && (a.Init == b.Init || a.Init == 0 || b.Init == 0)
}
