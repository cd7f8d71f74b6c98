// Package standin knows the images that the well-known publishers of Linux
// images have on AWS, by name, so that localcloud can let an image of its own
// stand in for one. It knows nothing of their content.
package standin

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
)

// A Name is how a publisher would call an image.
type Name struct {
	Name         string
	Owner, Alias string // account and, where AWS vouches for it, its alias
	RootDevice   string
	Published    time.Time
	Publisher    string // for people
}

type publisher struct {
	name, owner, alias, root string
	// known recognises names that are this publisher's.
	known *regexp.Regexp
	// names returns the names of one day's images, the likeliest first.
	names func(arch, day string) []string
}

// day is when stand-ins were published unless their name is asked to say
// otherwise. It does not move: the same question has the same answer always.
const day = "20260101"

// Find returns the name that an image matching one of the patterns would have,
// if the patterns ask for an image of one of the owners for the architecture
// ("x86_64", "arm64"). Owners are account ids or aliases. The same question
// always has the same answer.
func Find(owners, patterns []string, arch string) (Name, bool) {
	for _, p := range publishers() {
		if !slices.Contains(owners, p.owner) && (p.alias == "" || !slices.Contains(owners, p.alias)) {
			continue
		}
		for _, pattern := range patterns {
			if n := p.match(pattern, arch); n != "" {
				return Name{n, p.owner, p.alias, p.root, published(n), p.name}, true
			}
		}
	}
	return Name{}, false
}

func (p publisher) match(pattern, arch string) string {
	for _, n := range p.names(arch, dayOf(pattern)) {
		if filter.Match(pattern, n) {
			return n
		}
	}
	// A release that the table does not have, or a name in full.
	if !p.known.MatchString(pattern) || otherArch(pattern, arch) {
		return ""
	}
	n := fill(pattern)
	if !filter.Match(pattern, n) {
		return ""
	}
	return n
}

var (
	wholeDay = regexp.MustCompile(`20\d{6}`)
	someDay  = regexp.MustCompile(`20\d{2,5}\*`)
	anyDay   = regexp.MustCompile(`20\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])`)
)

// dayOf returns the day that a pattern asks for: 20231207, or 202312*.
func dayOf(pattern string) string {
	if d := wholeDay.FindString(pattern); d != "" {
		return d
	}
	if d := strings.TrimSuffix(someDay.FindString(pattern), "*"); d != "" && !strings.HasPrefix(day, d) {
		return (d + "0101"[max(0, len(d)-4):])[:8]
	}
	return day
}

func published(name string) time.Time {
	t, err := time.Parse("20060102", anyDay.FindString(name))
	if err != nil {
		t, _ = time.Parse("20060102", day)
	}
	return t
}

// otherArch tells whether a pattern asks for another architecture than arch.
func otherArch(pattern, arch string) bool {
	theirs := []string{"arm64", "aarch64"}
	if arch == "arm64" {
		theirs = []string{"amd64", "x86_64", "i386", "i686"}
	} else {
		theirs = append(theirs, "i386", "i686", "ppc64", "s390x", "riscv")
	}
	return slices.ContainsFunc(theirs, func(s string) bool { return strings.Contains(pattern, s) })
}

// fill puts something in place of a pattern's wildcards: a day for the last *,
// nothing for the others.
func fill(pattern string) string {
	last := strings.LastIndexByte(pattern, '*')
	var b strings.Builder
	for i, r := range pattern {
		switch {
		case r == '*' && i == last:
			b.WriteString(dayOf(""))
		case r == '*':
		case r == '?':
			b.WriteByte('0')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func debianArch(arch string) string {
	if arch == "x86_64" {
		return "amd64"
	}
	return arch
}

func redHatArch(arch string) string {
	if arch == "arm64" {
		return "aarch64"
	}
	return arch
}

func publishers() []publisher {
	return []publisher{
		{"Canonical", "099720109477", "amazon", "/dev/sda1", regexp.MustCompile(`^ubuntu[a-z-]*/images.*ubuntu-`), ubuntu},
		{"Debian", "136693071363", "amazon", "/dev/xvda", regexp.MustCompile(`^debian-\d+`), debian},
		{"Amazon", "137112412989", "amazon", "/dev/xvda", regexp.MustCompile(`^(amzn2?|al20\d\d)-ami-(hvm|kernel|minimal|20)`), amazon},
		{"Red Hat", "309956199498", "amazon", "/dev/sda1", regexp.MustCompile(`^RHEL-\d`), func(arch, day string) []string {
			return each([]string{"9.6.0", "10.0.0", "8.10.0", "9.5.0", "9.4.0", "9.3.0", "9.2.0"}, func(v string) []string {
				return []string{
					fmt.Sprintf("RHEL-%s_HVM-%s-%s-0-Hourly2-GP3", v, day, arch),
					fmt.Sprintf("RHEL-%s_HVM-%s-%s-0-Hourly2-GP2", v, day, arch),
				}
			})
		}},
		{"SUSE", "013907871322", "amazon", "/dev/sda1", regexp.MustCompile(`^suse-sles-\d`), func(arch, day string) []string {
			return each([]string{"15-sp7", "15-sp6", "15-sp5", "15-sp4", "12-sp5"}, func(v string) []string {
				return []string{fmt.Sprintf("suse-sles-%s-v%s-hvm-ssd-%s", v, day, arch)}
			})
		}},
		{"Rocky Linux", "792107900819", "", "/dev/sda1", regexp.MustCompile(`^Rocky-\d`), func(arch, day string) []string {
			return each([]string{"9 9.6", "10 10.0", "8 8.10"}, func(v string) []string {
				major, minor, _ := strings.Cut(v, " ")
				return []string{
					fmt.Sprintf("Rocky-%s-EC2-Base-%s-%s.0.%s", major, minor, day, redHatArch(arch)),
					fmt.Sprintf("Rocky-%s-EC2-LVM-%s-%s.0.%s", major, minor, day, redHatArch(arch)),
				}
			})
		}},
		{"AlmaLinux", "764336703387", "", "/dev/sda1", regexp.MustCompile(`^AlmaLinux OS \d`), func(arch, day string) []string {
			return each([]string{"9.6", "10.0", "8.10"}, func(v string) []string {
				return []string{fmt.Sprintf("AlmaLinux OS %s.%s %s", v, day, redHatArch(arch))}
			})
		}},
		{"Fedora and CentOS", "125523088429", "", "/dev/sda1", regexp.MustCompile(`^(Fedora-Cloud|CentOS )`), func(arch, day string) []string {
			a := redHatArch(arch)
			return []string{
				fmt.Sprintf("CentOS Stream 9 %s %s", a, day),
				fmt.Sprintf("CentOS Stream 10 %s %s", a, day),
				fmt.Sprintf("Fedora-Cloud-Base-AmazonEC2.%s-42-%s.0", a, day),
			}
		}},
	}
}

// each joins what f makes of every version.
func each(versions []string, f func(string) []string) []string {
	var list []string
	for _, v := range versions {
		list = append(list, f(v)...)
	}
	return list
}

func ubuntu(arch, day string) []string {
	a := debianArch(arch)
	var list []string
	for _, r := range []string{
		"noble-24.04", "jammy-22.04", "focal-20.04", "resolute-26.04", "questing-25.10", "plucky-25.04",
		"bionic-18.04", "xenial-16.04",
	} {
		disk := "hvm-ssd"
		switch r[0] {
		case 'n', 'r', 'q', 'p': // since 23.10, images are on gp3
			disk = "hvm-ssd-gp3"
		}
		list = append(list,
			fmt.Sprintf("ubuntu/images/%s/ubuntu-%s-%s-server-%s", disk, r, a, day),
			fmt.Sprintf("ubuntu-minimal/images/%s/ubuntu-%s-%s-minimal-%s", disk, r, a, day),
			fmt.Sprintf("ubuntu-pro-server/images/%s/ubuntu-%s-%s-pro-server-%s", disk, r, a, day))
	}
	return list
}

func debian(arch, day string) []string {
	return each([]string{"12", "13", "11", "10"}, func(v string) []string {
		return []string{
			fmt.Sprintf("debian-%s-%s-%s-2257", v, debianArch(arch), day),
			fmt.Sprintf("debian-%s-backports-%s-%s-2257", v, debianArch(arch), day),
		}
	})
}

func amazon(arch, day string) []string {
	list := []string{
		fmt.Sprintf("al2023-ami-2023.9.%s.0-kernel-6.1-%s", day, arch),
		fmt.Sprintf("al2023-ami-2023.9.%s.0-kernel-6.12-%s", day, arch),
		fmt.Sprintf("al2023-ami-minimal-2023.9.%s.0-kernel-6.1-%s", day, arch),
		fmt.Sprintf("amzn2-ami-hvm-2.0.%s.0-%s-gp2", day, arch),
		fmt.Sprintf("amzn2-ami-kernel-5.10-hvm-2.0.%s.0-%s-gp2", day, arch),
		fmt.Sprintf("amzn2-ami-hvm-2.0.%s.0-%s-ebs", day, arch),
	}
	if arch == "x86_64" {
		list = append(list, fmt.Sprintf("amzn-ami-hvm-2018.03.0.%s.0-x86_64-gp2", day))
	}
	return list
}

// Alias returns the alias that AWS has for a publisher's account; empty for
// none.
func Alias(owner string) string {
	for _, p := range publishers() {
		if p.owner == owner {
			return p.alias
		}
	}
	return ""
}
