package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// etcdPuts gives workers that put keys of 100 bytes by etcd's gRPC, one connection each.
// net/http carries the calls, which costs some more than the raw connections that the
// others are asked over.
func etcdPuts(addr string) func(worker int) (asker, error) {
	return func(worker int) (asker, error) {
		t := &http.Transport{Protocols: new(http.Protocols)}
		t.Protocols.SetUnencryptedHTTP2(true)
		return &etcdAsker{t: t, c: &http.Client{Transport: t, Timeout: 30 * time.Second}, url: "http://" + addr + "/etcdserverpb.KV/Put", worker: strconv.Itoa(worker)}, nil
	}
}

type etcdAsker struct {
	t           *http.Transport
	c           *http.Client
	url, worker string
}

func (a *etcdAsker) Close() error {
	a.t.CloseIdleConnections()
	return nil
}

func (a *etcdAsker) do(i int) error {
	// PutRequest: field 1 is the key, field 2 the value; before it the frame of gRPC
	frame := make([]byte, 5, 160)
	for field, text := range []string{"k/" + a.worker + "/" + strconv.Itoa(i%1000), string(appendValue(nil))} {
		frame = append(frame, byte(field+1)<<3|2)
		frame = binary.AppendUvarint(frame, uint64(len(text)))
		frame = append(frame, text...)
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-5))
	req, err := http.NewRequest(http.MethodPost, a.url, bytes.NewReader(frame))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	r, err := a.c.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	if status := r.Trailer.Get("Grpc-Status"); err == nil && status != "0" {
		err = fmt.Errorf("etcd: grpc status %q: %w", status, errors.New(r.Trailer.Get("Grpc-Message")))
	}
	return err
}
