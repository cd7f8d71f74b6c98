package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// namePrefix is where the keys for names are kept, sealed, when the farm's key
// is in KMS.
const namePrefix = "names/"

// maxName is more than a sealed key for names takes.
const maxName = 16 << 10

// names are the keys for names that were read, by ID.
type names struct {
	mu   sync.Mutex
	byID map[string]*secret.Name
}

// name returns the digest of data.
func (s *Store) name(ctx context.Context, data []byte) (Digest, error) {
	if d, ok := s.keys.Digest(digestUse, data); ok {
		return Digest(d), nil
	}
	n, err := s.present(ctx)
	if err != nil {
		return "", err
	}
	return Digest(n.Digest(digestUse, data)), nil
}

// verify tells whether data is what d names.
func (s *Store) verify(ctx context.Context, d Digest, data []byte) error {
	id, _, _ := strings.Cut(string(d), "-")
	if !secret.IsName(id) {
		return s.keys.Verify(string(d), digestUse, data)
	}
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	n, err := s.openName(ctx, id)
	if err != nil {
		return err
	}
	return n.Verify(string(d), digestUse, data)
}

// present returns the key for names of the key in KMS that seals now. Two
// programs that both make the first one agree on the lesser from then on.
func (s *Store) present(ctx context.Context) (*secret.Name, error) {
	prefix, ok, err := s.keys.NamePrefix(ctx)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("the key file changed just now")
	}
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	least := ""
	for id := range s.names.byID {
		if strings.HasPrefix(id, prefix) && (least == "" || id < least) {
			least = id
		}
	}
	if least != "" {
		return s.names.byID[least], nil
	}
	it := s.bucket.List(&blob.ListOptions{Prefix: namePrefix + prefix})
	obj, err := it.Next(ctx) // in the order of names
	if err == nil {
		return s.openName(ctx, strings.TrimPrefix(obj.Key, namePrefix))
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look for the key for names: %w", err)
	}
	n, sealed, err := s.keys.NewName(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.bucket.WriteAll(ctx, namePrefix+n.ID(), sealed, nil); err != nil {
		return nil, fmt.Errorf("store the key for names %s: %w", n.ID(), err)
	}
	s.keep(n)
	return n, nil
}

// openName returns the key for names with this ID. s.names.mu is held.
func (s *Store) openName(ctx context.Context, id string) (*secret.Name, error) {
	if n, ok := s.names.byID[id]; ok {
		return n, nil
	}
	sealed, err := s.read(ctx, namePrefix+id, maxName)
	if err != nil {
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil, bakehouse.Errorf(bakehouse.NotFound, "key for names %s is not in the store", id)
		}
		return nil, fmt.Errorf("read the key for names %s: %w", id, err)
	}
	n, err := s.keys.OpenName(ctx, id, sealed)
	if err != nil {
		return nil, fmt.Errorf("open the key for names %s: %w", id, err)
	}
	s.keep(n)
	return n, nil
}

func (s *Store) keep(n *secret.Name) {
	if s.names.byID == nil {
		s.names.byID = map[string]*secret.Name{}
	}
	s.names.byID[n.ID()] = n
}
