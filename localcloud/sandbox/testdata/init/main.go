// Command init is what the tests' instances run: nothing but sandbox.Main.
package main

import "github.com/bakehouse-farm/bakehouse/localcloud/sandbox"

func main() { sandbox.Main() }
