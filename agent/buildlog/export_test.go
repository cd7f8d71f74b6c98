package buildlog

// SetMaxOutput makes the limit of output small enough to be reached in a test.
func (st *Step) SetMaxOutput(n int64) { st.maxOutput = n }
