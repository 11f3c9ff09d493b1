package topology

import _ "embed" // the example

//go:embed example.yaml
var example string

// Example returns a topology file to start from, with a comment for each field.
func Example() string { return example }
