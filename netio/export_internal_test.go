package netio

// Streams returns how many streams the connection knows.
func (c *Conn) Streams() int {
	c.carriers.mu.Lock()
	defer c.carriers.mu.Unlock()
	return len(c.carriers.loose) + len(c.carriers.records.streams)
}

// Held returns how many bytes of memory for peers are taken.
func (t *Transport) Held() (held int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.budgets {
		held += b.begin.used + b.grow.used + b.large.used + b.keep.used
	}
	return held
}
