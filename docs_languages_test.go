// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// page is a file of Markdown as these tests see it.
type page struct {
	outline []string // what both languages must have alike, in its order
	anchors []string // the fragments of links to its headings, as GitHub makes them
	links   []string // the targets of its links within the project
	blocks  []block
}

// block is a block of code, without its indentation.
type block struct{ language, text string }

var (
	headingLine = regexp.MustCompile(`^(#+) (.*)`)
	listItem    = regexp.MustCompile(`^ *(-|\d+\.) `)
	codeSpan    = regexp.MustCompile("``.+?``|`[^`]+`")
	linkTarget  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeComment = regexp.MustCompile(`(?m)(^|[ \t]+)(#|//) .*$`)
)

func readPage(t *testing.T, name string) (p page) {
	t.Helper()
	var code *block // that the line is in
	indent := ""
	for line := range strings.Lines(document(t, name)) {
		line = strings.TrimSuffix(line, "\n")
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch heading := headingLine.FindStringSubmatch(line); {
		case isFence && code == nil:
			code, indent = &block{language: fence}, line[:strings.Index(line, "`")]
		case isFence:
			p.blocks = append(p.blocks, *code)
			p.outline = append(p.outline, code.outline())
			code = nil
		case code != nil:
			code.text += strings.TrimPrefix(line, indent) + "\n"
		case heading != nil:
			p.outline = append(p.outline, heading[1])
			p.anchors = append(p.anchors, p.anchor(heading[2]))
		case strings.HasPrefix(line, "|"):
			_, cells, _ := strings.Cut(line, "|")
			first, _, _ := strings.Cut(cells, " | ")
			p.outline = append(p.outline, fmt.Sprintf("a row of %d cells: %q", strings.Count(line, " |"), codeSpan.FindAllString(first, -1)))
		case listItem.MatchString(line):
			p.outline = append(p.outline, listItem.FindString(line))
		}
		if code == nil {
			for _, link := range linkTarget.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				if !strings.Contains(link[1], ":") {
					p.links = append(p.links, link[1])
				}
			}
		}
	}
	if code != nil {
		t.Errorf("%s has a block of code without an end", name)
	}
	return p
}

// outline returns what a block has in both languages. Comments are in the language of
// the page. So are the words of a drawing, that is, of a block with arrows and without
// a language.
func (b block) outline() string {
	if b.language == "" && strings.Contains(b.text, "─▶") {
		return fmt.Sprintf("a drawing of %d lines", strings.Count(b.text, "\n"))
	}
	return "```" + b.language + "\n" + codeComment.ReplaceAllString(b.text, "")
}

// anchor returns the fragment of the next heading. Of equal ones, the second ends in -1.
func (p page) anchor(heading string) string {
	plain := regexp.MustCompile(`\[(.*?)\]\(.*?\)`).ReplaceAllString(heading, "$1")
	anchor := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
			return unicode.ToLower(r)
		}
		return -1
	}, plain)
	for name, n := anchor, 1; slices.Contains(p.anchors, anchor); n++ {
		anchor = fmt.Sprintf("%s-%d", name, n)
	}
	return anchor
}

// twin returns the name of a page in the other language, and whether the one that is
// given is the Chinese one. It returns nothing for what exists in one language only.
func twin(name string) (other string, chinese bool) {
	folder, file := path.Split(name)
	switch {
	case name == "README.md":
		return "README.zh-CN.md", false
	case name == "README.zh-CN.md":
		return "README.md", true
	case path.Ext(name) == ".md" && folder == "docs/":
		return "docs/zh/" + file, false
	case path.Ext(name) == ".md" && folder == "docs/zh/":
		return "docs/" + file, true
	}
	return "", false
}

// Whoever reads a page in Chinese finds each section, list item, row and block of code
// of the English one, in the same order, and a way from each page to the other.
func TestTranslationsAreComplete(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	chinese, err := filepath.Glob("docs/zh/*.md")
	if err != nil || len(chinese) > len(pages) {
		t.Errorf("%d pages in docs/, %d in docs/zh/: %v", len(pages), len(chinese), err)
	}
	for _, name := range append(pages, "README.md") {
		other, _ := twin(name)
		if _, err := os.Stat(other); err != nil {
			t.Errorf("%s has no translation %s", name, other)
			continue
		}
		want, got := readPage(t, name), readPage(t, other)
		for i := range min(len(want.outline), len(got.outline)) {
			if want.outline[i] != got.outline[i] {
				t.Errorf("after %d headings, list items, rows and blocks, %s has %s\nand %s has %s", i, name, want.outline[i], other, got.outline[i])
				break
			}
		}
		if len(want.outline) != len(got.outline) {
			t.Errorf("%s has %d headings, list items, rows and blocks, %s has %d", name, len(want.outline), other, len(got.outline))
		}
		if len(want.links) == 0 || path.Join(path.Dir(name), want.links[0]) != other || len(got.links) == 0 || path.Join(path.Dir(other), got.links[0]) != name {
			t.Errorf("the first link of %s and of %s is not to each other", name, other)
		}
	}
}

// Whoever has five minutes reads the README: what it is on one screen, how on the next,
// and then the way to every page.
func TestREADMEIsShortAndLeadsToEveryPage(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		text := document(t, name)
		what, _, _ := strings.Cut(text, "\n## ")
		if first, all := strings.Count(what, "\n"), strings.Count(text, "\n"); first > 46 || all > 135 {
			t.Errorf("%s has %d lines before its first section, want 46 at most, and %d in all, want 135", name, first, all)
		}
		links := readPage(t, name).links
		for _, page := range pages {
			if other, _ := twin(page); name == "README.zh-CN.md" {
				page = other
			}
			if !slices.Contains(links, page) {
				t.Errorf("%s does not link to %s: add it to the table at the end", name, page)
			}
		}
	}
}

// Every link within the project leads to a file, and to a heading that is there. Whoever
// reads in Chinese stays in it: but for the first link, a Chinese page links to Chinese
// pages where there are such.
func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for _, name := range append(forUsers(t), "ARCHITECTURE.md") {
		if path.Ext(name) != ".md" {
			continue
		}
		from := readPage(t, name)
		_, inChinese := twin(name)
		for i, link := range from.links {
			found++
			file, anchor, hasAnchor := strings.Cut(link, "#")
			target, to := name, from
			if file != "" {
				target = path.Join(path.Dir(name), file)
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s links to %s, which there is not", name, target)
					continue
				}
			}
			if hasAnchor {
				if target != name {
					to = readPage(t, target)
				}
				if !slices.Contains(to.anchors, anchor) {
					t.Errorf("%s links to #%s of %s, which has no such heading", name, anchor, target)
				}
			}
			if other, chinese := twin(target); inChinese && other != "" && !chinese && i > 0 {
				t.Errorf("%s links to %s: link to %s", name, target, other)
			}
		}
	}
	if found < 100 {
		t.Errorf("%d links are found", found)
	}
}
