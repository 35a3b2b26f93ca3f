// The beginning of an answer in a table's cell, with the drawing that it holds, if any.
import { SvgImage } from "~/conversation/Svg";
import { svgIn } from "~/conversation/segments";

export function Answer({ text }: { text: string | null | undefined }) {
  if (!text) return <span className="text-ink-faint">{text === "" ? "no answer" : "not recorded"}</span>;
  const drawing = svgIn(text);
  return (
    <span className="flex items-center gap-2">
      {drawing && (
        <SvgImage source={drawing} className="size-10 shrink-0 rounded border bg-white object-contain" />
      )}
      <span
        className="line-clamp-2 max-w-[26rem] min-w-0 font-mono text-xs break-all"
        title={text.slice(0, 600)}
      >
        {text}
      </span>
    </span>
  );
}
