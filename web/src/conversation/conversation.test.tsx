import { cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test } from "vitest";
import { Conversation } from "./Conversation";
import { Markdown } from "./Markdown";
import { asJson, linkTarget, pictureSource, reasoning, turns } from "./messages";
import { segments, svgAddress, svgIn } from "./segments";

afterEach(cleanup);

const DRAWING = '<svg viewBox="0 0 4 4"><circle r="2"/></svg>';

test("drawings are found between words, but not inside code blocks or without an end", () => {
  expect(segments(`Here: ${DRAWING} and done`).map((one) => one.kind)).toEqual(["text", "svg", "text"]);
  expect(segments(`\`\`\`svg\n${DRAWING}\n\`\`\`\n${DRAWING}`).map((one) => one.kind)).toEqual([
    "text",
    "svg",
  ]);
  expect(segments("cut off <svg><path d=")).toEqual([{ kind: "text", text: "cut off <svg><path d=" }]);
  expect(svgIn("<svg>")).toBeNull();
});

test("a drawing without a namespace gets one, and half a character does not break its address", () => {
  expect(decodeURIComponent(svgAddress(DRAWING))).toContain('xmlns="http://www.w3.org/2000/svg"');
  expect(() => svgAddress("<svg>\ud800</svg>")).not.toThrow();
});

test("thinking is told apart, from its field or from the text", () => {
  const inline = reasoning({ role: "assistant", content: "<think>2+2</think>\n4" });
  expect([inline.thought, inline.rest[0]?.text]).toEqual(["2+2", "4"]);
  expect(reasoning({ role: "assistant", content: "<think>never ends" })).toEqual({
    thought: "never ends",
    rest: [],
  });
  expect(reasoning({ role: "user", content: "<think>no</think>" }).thought).toBe("");
  expect(reasoning({ role: "assistant", content: "4", reasoning_content: "2+2" }).thought).toBe("2+2");
});

test("a tool's answer goes to the call that asked; others stay messages", () => {
  const shown = turns([
    { role: "assistant", tool_calls: [{ id: "a", function: { name: "f" } }] },
    { role: "tool", tool_call_id: "a", content: "1" },
    { role: "tool", tool_call_id: "b", content: "2" },
  ]);
  expect(shown).toHaveLength(2);
  expect(shown[0]?.results.get("a")?.content).toBe("1");
});

test("only pictures from within the text are shown, and links lead to http alone", () => {
  expect(pictureSource("https://example.invalid/p.png")).toBeNull();
  expect(pictureSource("data:text/html,<script>")).toBeNull();
  expect(pictureSource("data:image/png;base64,AA==")).not.toBeNull();
  expect(linkTarget("javascript:alert(1)")).toBeNull();
  expect(linkTarget(" JaVaScRiPt:alert(1)")).toBeNull();
  expect(asJson('{"a": 1}')).toEqual({ json: { a: 1 } });
  expect(asJson("{broken")).toEqual({ text: "{broken" });
});

test("hostile text becomes text: no element of its own, no address but http", () => {
  const { container } = render(
    <Markdown
      text={[
        "<script>window.ran = 1</script><img src=x onerror=ran()>",
        "[click](javascript:ran()) [data](data:text/html;base64,AAAA) [fine](https://example.com/)",
        "![spy](https://example.invalid/track.png) ![spy](//example.invalid/x.png)",
        "<svg onload='ran()'><script>ran()</script></svg>",
        "- [x] done",
        '<iframe src="https://example.invalid"></iframe>',
      ].join("\n\n")}
    />,
  );
  expect(container.querySelector("script, iframe, input, svg[onload], [onerror], [onload]")).toBeNull();
  const links = [...container.querySelectorAll("a")];
  expect(links.map((link) => link.href)).toEqual([
    "https://example.com/",
    "https://example.invalid/track.png",
  ]);
  expect(links.every((link) => link.rel.includes("noreferrer") && link.target === "_blank")).toBe(true);
  const pictures = [...container.querySelectorAll("img")].map((picture) => picture.src);
  expect(pictures).toHaveLength(1);
  expect(pictures[0]).toMatch(/^data:image\/svg\+xml/);
});

test.each([
  ["quotes", "> ".repeat(10_000)],
  ["brackets", "[".repeat(20_000)],
  ["links", "[a](".repeat(5000)],
  ["stars", "*a ".repeat(6000)],
  ["lists", "- ".repeat(10_000)],
  ["ticks", "`".repeat(20_000)],
  ["bars", `${"|a".repeat(5000)}\n${"|-".repeat(5000)}`],
  ["drawings", "<svg>".repeat(4000)],
  ["underlines", "_a".repeat(10_000)],
])("nested %s are shown and do not take the page along", (_, text) => {
  const { container } = render(<Markdown text={text} />);
  expect(container.textContent?.length).toBeGreaterThan(0);
});

test("a huge answer shows its beginning and a button", async () => {
  const { container } = render(<Markdown text={"word ".repeat(1_000_000)} />);
  expect(container.textContent?.length).toBeLessThan(25_000);
  await userEvent.click(screen.getByRole("button", { name: "Show more" }));
  expect(container.textContent?.length).toBeGreaterThan(35_000);
});

test("a conversation tells calls with arguments and results, and folds the thinking", async () => {
  render(
    <Conversation
      messages={[
        {
          role: "user",
          content: [{ type: "image_url", image_url: { url: "https://example.invalid/a.png" } }],
        },
        {
          role: "assistant",
          content: "",
          reasoning_content: "I should look.",
          tool_calls: [{ id: "a", function: { name: "weather", arguments: '{"city": "Oslo"}' } }],
        },
        { role: "tool", tool_call_id: "a", content: '{"degrees": 4}' },
      ]}
    />,
  );
  expect(screen.getAllByRole("article")).toHaveLength(2);
  expect(screen.getByText("weather")).toBeTruthy();
  expect(screen.getByText(/Oslo/)).toBeTruthy();
  expect(screen.getByText("degrees", { exact: false })).toBeTruthy();
  expect(screen.queryByText("I should look.")).toBeNull();
  await userEvent.click(screen.getByRole("button", { name: /Reasoning/ }));
  expect(screen.getByText("I should look.")).toBeTruthy();
});
