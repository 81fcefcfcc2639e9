package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browsing is the one Chromium of all tests; it is started by the first and ended by
// TestMain. Names other than the loopback address lead nowhere for it.
var browsing struct {
	sync.Mutex
	ctx   context.Context
	close func()
}

func closeBrowser() {
	if browsing.close != nil {
		browsing.close()
	}
}

// tab is a page in Chromium, of its own profile. When the test ends, what it complained
// about fails the test, and so does every request to another place than the agent.
type tab struct {
	t    testing.TB
	ctx  context.Context
	base string // of the pages

	mu         sync.Mutex
	complaints []string
	requests   []string
	pardoned   []string // parts of complaints that are meant to be
}

// openTab opens a tab on an agent's page.
func openTab(t testing.TB, a *agent) *tab {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("no Chromium on this machine: make deps installs it")
	}
	browsing.Lock()
	if browsing.ctx == nil {
		opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true),
			chromedp.ExecPath("chromium"), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
		all, end := chromedp.NewExecAllocator(context.Background(), opts...)
		// what this library does not know of newer events is no error
		ctx, cancel := chromedp.NewContext(all, chromedp.WithErrorf(func(string, ...any) {}))
		browsing.close = func() { cancel(); end() }
		if err := chromedp.Run(ctx); err != nil {
			browsing.Unlock()
			t.Fatalf("start Chromium: %v", err)
		}
		browsing.ctx = ctx
	}
	parent := browsing.ctx
	browsing.Unlock()
	ctx, cancel := chromedp.NewContext(parent, chromedp.WithNewBrowserContext())
	b := &tab{t: t, base: a.url + "/ui/"}
	chromedp.ListenTarget(ctx, b.hear)
	b.ctx = ctx
	// the tab lives as long as the context of the first run
	if err := chromedp.Run(ctx, chromedp.EmulateViewport(1440, 900)); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
	next:
		for _, c := range b.complaints {
			for _, p := range b.pardoned {
				if strings.Contains(c, p) {
					continue next
				}
			}
			t.Errorf("the browser complains: %s", c)
		}
		for _, r := range b.requests {
			if !strings.HasPrefix(r, b.base) && !strings.HasPrefix(r, "about:") {
				t.Errorf("the page asks for something from elsewhere: %s", r)
			}
		}
	})
	return b
}

// hear notes what the page asks for and complains about.
func (b *tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, fmt.Sprintf("console.%s", e.Type))
	case *log.EventEntryAdded:
		b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

// pardon lets complaints with these parts pass.
func (b *tab) pardon(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pardoned = append(b.pardoned, parts...)
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// open goes to a page and waits until it hears of changes.
func (b *tab) open(page string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base + page))
}

// eval runs a script in the page, and decodes what it gives (or promises).
func (b *tab) eval(script string, out any) {
	b.t.Helper()
	b.run(chromedp.Evaluate(script, out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// texts gives the text of everything that a selector finds.
func (b *tab) texts(selector string) []string {
	b.t.Helper()
	var out []string
	b.eval(`[...document.querySelectorAll(`+quote(selector)+`)].map(e => e.textContent.trim())`, &out)
	return out
}

// until waits until a script gives true. It is asked again where another page came between.
func (b *tab) until(what, script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if err = chromedp.Run(ctx, chromedp.Poll(script, nil, chromedp.WithPollingTimeout(20*time.Second))); err == nil {
			return
		}
	}
	var body string
	chromedp.Run(b.ctx, chromedp.Evaluate(`document.querySelector("main").innerText`, &body))
	b.t.Fatalf("%s: %v\n%s", what, err, body)
}

// fill writes into a field as a person does.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.eval(`document.querySelector(`+quote(selector)+`).value = ""`, nil)
	b.run(chromedp.SendKeys(selector, text, chromedp.ByQuery))
}

// click clicks, and waits for the page that follows.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(selector, chromedp.ByQuery))
}

// submit clicks a button that leads to another page, and waits for that.
func (b *tab) submit(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector, chromedp.ByQuery)); err != nil {
		b.t.Fatalf("click %s: %v", selector, err)
	}
}

// look sets the theme and the size of the window.
func (b *tab) look(dark bool, width, height int64) {
	b.t.Helper()
	theme := "light"
	if dark {
		theme = "dark"
	}
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}),
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 600))
}

// login logs in with a token.
func (b *tab) login(secret string) {
	b.t.Helper()
	b.open("login")
	b.fill("#token", secret)
	b.submit("form button.first")
}

// inert fails the test if something of the catalog runs in the page.
func (b *tab) inert(page string) {
	b.t.Helper()
	var hacked bool
	if b.eval(`!!window.hacked || document.querySelectorAll("script, main img").length !== 1`, &hacked); hacked {
		b.t.Errorf("%s: something of the catalog runs", page)
	}
}

// accessible fails the test for what the accessibility check finds, in every look.
func (b *tab) accessible(page string) {
	b.t.Helper()
	for _, look := range looks {
		b.look(look.dark, look.width, 900)
		var wrong []string
		b.eval(`(async () => { while (document.getAnimations().length) await new Promise(requestAnimationFrame); return `+audit+`; })()`, &wrong)
		for _, w := range wrong {
			b.t.Errorf("%q (%s): %s", page, look.name, w)
		}
		b.picture(page, look.name)
	}
	b.look(false, 1440, 900)
}

var looks = []struct {
	name  string
	dark  bool
	width int64
}{{"light", false, 1440}, {"dark", true, 1440}, {"phone", false, 360}}

// picture keeps the page as it looks, where -screenshots says.
func (b *tab) picture(page, look string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	var png []byte
	b.run(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(*screenshots, page+"-"+look+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always encodes
	return string(b)
}

// query writes a page's address with its parameters, names and values in turn.
func query(page string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return page + "?" + q.Encode()
}
