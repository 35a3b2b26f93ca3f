// Text of models as Markdown. It is hostile until shown otherwise: no HTML of its own, links only to http(s) and without telling where
// they were, pictures only from within the text, drawings only as images, and never more at once than the page can bear.
import { Component, memo, type ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { Code, CopyButton } from "~/design/Copy";
import { Bounded } from "./Bounded";
import { linkTarget, pictureSource } from "./messages";
import { SvgPicture } from "./Svg";
import { segments, svgIn } from "./segments";

/** Characters that are read as Markdown at once; more is shown as it is. */
const LARGEST = 100_000;

const COMPONENTS: Components = {
  a: ({ href, children }) => {
    const target = linkTarget(href);
    return target ? (
      <a
        href={target}
        target="_blank"
        rel="noopener noreferrer"
        className="text-accent-text underline underline-offset-2"
      >
        {children}
      </a>
    ) : (
      <span title={href}>{children}</span>
    );
  },
  img: ({ src, alt }) => {
    const source = pictureSource(src);
    if (source)
      return <img src={source} alt={alt || "Picture in the text"} className="max-h-96 max-w-full rounded" />;
    const target = linkTarget(src);
    const label = alt || "picture";
    return target ? (
      <a
        href={target}
        target="_blank"
        rel="noopener noreferrer"
        className="text-accent-text underline underline-offset-2"
      >
        {label} (picture on {new URL(target).host}, not loaded)
      </a>
    ) : (
      <span>{label}</span>
    );
  },
  pre: ({ node }) => {
    const code = node?.children[0];
    if (code?.type !== "element") return null;
    const text = code.children.map((child) => (child.type === "text" ? child.value : "")).join("");
    const names = code.properties.className;
    const language = Array.isArray(names) ? String(names[0] ?? "").replace("language-", "") : "";
    return <CodeBlock text={text.replace(/\n$/, "")} language={language} />;
  },
  code: ({ children }) => (
    <code className="rounded bg-sunken px-1 py-0.5 font-mono text-[0.92em] break-words">{children}</code>
  ),
  // Headings of a model's text are not headings of the page.
  h1: ({ children }) => <p className="pt-1 text-base font-semibold">{children}</p>,
  h2: ({ children }) => <p className="pt-1 font-semibold">{children}</p>,
  h3: ({ children }) => <p className="pt-1 font-semibold">{children}</p>,
  h4: ({ children }) => <p className="font-semibold">{children}</p>,
  h5: ({ children }) => <p className="font-semibold">{children}</p>,
  h6: ({ children }) => <p className="font-semibold">{children}</p>,
  input: ({ checked }) => <span>{checked ? "☑ " : "☐ "}</span>,
  ul: ({ children }) => <ul className="list-disc space-y-0.5 pl-6">{children}</ul>,
  ol: ({ children, start }) => (
    <ol className="list-decimal space-y-0.5 pl-6" start={start}>
      {children}
    </ol>
  ),
  blockquote: ({ children }) => (
    <blockquote className="space-y-2 border-l-2 border-line-strong pl-3 text-ink-soft">{children}</blockquote>
  ),
  hr: () => <hr className="border-line" />,
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
    <section aria-label="Table in the text" tabIndex={0} className="overflow-x-auto">
      <table className="border-collapse text-[13px]">{children}</table>
    </section>
  ),
  th: ({ children }) => <th className="border bg-raised px-2 py-1 text-left font-semibold">{children}</th>,
  td: ({ children }) => <td className="border px-2 py-1 align-top">{children}</td>,
};

/** Safe Markdown, with its drawings shown as pictures. */
export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <Bounded text={text}>
      {(shown) => (
        <div className="min-w-0 space-y-2.5 [overflow-wrap:anywhere]">
          {segments(shown).map((segment, place) =>
            segment.kind === "svg" ? (
              // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a text are known by their place
              <SvgPicture key={place} source={segment.text} />
            ) : (
              // biome-ignore lint/suspicious/noArrayIndexKey: as above
              <Prose key={place} text={segment.text} />
            ),
          )}
        </div>
      )}
    </Bounded>
  );
});

function Prose({ text }: { text: string }) {
  if (text.length > LARGEST || tangled(text)) return <Plain text={text} />;
  return (
    <Fallback key={text} text={text}>
      <ReactMarkdown
        remarkPlugins={[remarkGfm]}
        components={COMPONENTS}
        urlTransform={(url) => linkTarget(url) ?? pictureSource(url) ?? ""}
      >
        {text}
      </ReactMarkdown>
    </Fallback>
  );
}

function CodeBlock({ text, language }: { text: string; language: string }) {
  const drawing = ["", "svg", "xml", "html"].includes(language) ? svgIn(text) : null;
  if (drawing) return <SvgPicture source={drawing} />;
  if (!language) return <Code text={text} />;
  return (
    <div className="overflow-hidden rounded-md border">
      <div className="flex items-center justify-between border-b bg-raised pl-3 text-xs text-ink-soft">
        {language}
        <CopyButton text={text} label="Copy the code" />
      </div>
      <pre
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        className="overflow-x-auto bg-sunken p-3 font-mono text-xs leading-5"
      >
        {text}
      </pre>
    </div>
  );
}

/** Text as it is, line for line. */
export function Plain({ text }: { text: string }) {
  return <p className="min-w-0 whitespace-pre-wrap [overflow-wrap:anywhere]">{text}</p>;
}

/** Marks nested so deeply that reading them as Markdown would take the page with it: no prose looks like that. */
function tangled(text: string): boolean {
  return /(?:>\s?){40}|(?:[*_~]){200}|(?:!?\[){60}|(?:[-+*] ){40}|(?:`[^`\n]?){400}/.test(text);
}

/** Text that Markdown cannot read is shown as it is. */
class Fallback extends Component<{ text: string; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    return this.state.failed ? <Plain text={this.props.text} /> : this.props.children;
  }
}
