package engine

// ServerVersion is the version of the NATS server that the connection is or was
// with; empty before the first.
func (c *Conn) ServerVersion() string { return c.nc.ConnectedServerVersion() }
