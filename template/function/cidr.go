package function

import (
	"fmt"
	"math/big"
	"net/netip"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
)

var prefixParam = function.Parameter{Name: "prefix", Type: cty.String}

var cidrHost = function.New(&function.Spec{
	Params: []function.Parameter{prefixParam, {Name: "hostnum", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefix(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		n, err := whole(args, 1)
		if err != nil {
			return cty.NilVal, err
		}
		bits := p.Addr().BitLen() - p.Bits()
		size := new(big.Int).Lsh(big.NewInt(1), uint(bits))
		// A negative number counts from the end of the range.
		host := big.NewInt(int64(n))
		if n < 0 {
			host.Add(host, size)
		}
		if host.Sign() < 0 || host.Cmp(size) >= 0 {
			return cty.NilVal, function.NewArgErrorf(1, "prefix of %d does not accommodate a host numbered %d", p.Bits(), n)
		}
		return cty.StringVal(plus(p.Addr(), host).String()), nil
	},
})

var cidrNetmask = function.New(&function.Spec{
	Params: []function.Parameter{prefixParam},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefix(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		ones := make([]byte, p.Addr().BitLen()/8)
		for i := range p.Bits() {
			ones[i/8] |= 0x80 >> (i % 8)
		}
		mask, _ := netip.AddrFromSlice(ones)
		return cty.StringVal(mask.String()), nil
	},
})

var cidrSubnet = function.New(&function.Spec{
	Params: []function.Parameter{prefixParam, {Name: "newbits", Type: cty.Number}, {Name: "netnum", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefix(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		newbits, err := whole(args, 1)
		if err != nil {
			return cty.NilVal, err
		}
		net, err := whole(args, 2)
		if err != nil {
			return cty.NilVal, err
		}
		if newbits < 0 || newbits > 32 {
			return cty.NilVal, function.NewArgErrorf(1, "may not extend prefix by more than 32 bits")
		}
		bits := p.Bits() + newbits
		if bits > p.Addr().BitLen() {
			return cty.NilVal, function.NewArgErrorf(1, "would extend prefix to %d bits, which is too long for %s", bits, p)
		}
		if net < 0 || net >= 1<<newbits {
			return cty.NilVal, function.NewArgErrorf(2, "prefix extension of %d does not accommodate a subnet numbered %d", newbits, net)
		}
		offset := new(big.Int).Lsh(big.NewInt(int64(net)), uint(p.Addr().BitLen()-bits))
		return cty.StringVal(netip.PrefixFrom(plus(p.Addr(), offset), bits).String()), nil
	},
})

var cidrSubnets = function.New(&function.Spec{
	Params:   []function.Parameter{prefixParam},
	VarParam: &function.Parameter{Name: "newbits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefix(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		if len(args) == 1 {
			return cty.ListValEmpty(cty.String), nil
		}
		size := p.Addr().BitLen()
		end := new(big.Int).Lsh(big.NewInt(1), uint(size-p.Bits()))
		next := new(big.Int) // offset of the first address that is still free
		var nets []cty.Value
		for i := 1; i < len(args); i++ {
			newbits, err := whole(args, i)
			if err != nil {
				return cty.NilVal, err
			}
			bits := p.Bits() + newbits
			switch {
			case newbits < 1:
				return cty.NilVal, function.NewArgErrorf(i, "must extend prefix by at least one bit")
			case newbits > 32:
				return cty.NilVal, function.NewArgErrorf(i, "may not extend prefix by more than 32 bits")
			case bits > size:
				return cty.NilVal, function.NewArgErrorf(i, "would extend prefix to %d bits, which is too long for %s", bits, p)
			}
			width := new(big.Int).Lsh(big.NewInt(1), uint(size-bits))
			// A network starts at a multiple of its own size.
			rest := new(big.Int)
			next.DivMod(next.Add(next, new(big.Int).Sub(width, big.NewInt(1))), width, rest)
			next.Mul(next, width)
			start := new(big.Int).Set(next)
			if next.Add(next, width).Cmp(end) > 0 {
				return cty.NilVal, function.NewArgErrorf(i, "not enough remaining address space for a subnet with a prefix of %d bits in %s", bits, p)
			}
			nets = append(nets, cty.StringVal(netip.PrefixFrom(plus(p.Addr(), start), bits).String()))
		}
		return cty.ListVal(nets), nil
	},
})

func prefix(v cty.Value) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v.AsString())
	if err != nil {
		return p, function.NewArgErrorf(0, "invalid CIDR expression: %q is not of the form 10.0.0.0/8", v.AsString())
	}
	return p.Masked(), nil
}

func whole(args []cty.Value, i int) (int, error) {
	var n int
	if err := gocty.FromCtyValue(args[i], &n); err != nil {
		return 0, function.NewArgError(i, fmt.Errorf("must be a whole number"))
	}
	return n, nil
}

// plus is the address offset addresses after a. It does not overflow: offset
// stays within the prefix that a begins.
func plus(a netip.Addr, offset *big.Int) netip.Addr {
	n := new(big.Int).SetBytes(a.AsSlice())
	b := make([]byte, a.BitLen()/8)
	sum, _ := netip.AddrFromSlice(n.Add(n, offset).FillBytes(b))
	return sum
}
