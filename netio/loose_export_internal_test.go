package netio

// Loose returns how many streams that are not ordered the connection knows.
func (c *Conn) Loose() int {
	c.carriers.mu.Lock()
	defer c.carriers.mu.Unlock()
	return len(c.carriers.loose)
}
