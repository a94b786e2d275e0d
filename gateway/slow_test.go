package gateway

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Who has no token is told so at once, and not when the body that is never read has come.
func TestToken_SlowBody(t *testing.T) {
	url, _ := running(t, &fake{}, Config{Token: "secret"})
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // Config.Read is 30 s
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("POST /v1/events/e HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n ")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || !res.Close {
		t.Errorf("%s, closes %v", res.Status, res.Close)
	}
}
