// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"

	"golang.org/x/net/dns/dnsmessage"
)

// In this process DNS is that of a network where the gateway plays WeChat: the
// names of the API lead to 127.0.0.1, and no other name leads anywhere.
func init() {
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			conn, server := net.Pipe()
			go serveNames(server)
			return conn, nil
		},
	}
}

// serveNames answers questions as over TCP, each behind its length, until the
// resolver has no more.
func serveNames(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		answer, err := answerName(question)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func answerName(packed []byte) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(packed); err != nil {
		return nil, err
	}
	question := message.Questions[0]
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: message.ID, Response: true, RecursionAvailable: true},
		Questions: message.Questions,
	}
	switch {
	case question.Name.String() != host+"." && question.Name.String() != fileHost+".":
		answer.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	return answer.Pack()
}
