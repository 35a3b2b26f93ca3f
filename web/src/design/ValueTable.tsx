// Names and values, one to a line, as options are shown.

export function ValueTable(props: { caption: string; values: readonly (readonly [string, unknown])[] }) {
  return (
    <table className="w-full text-[13px]">
      <caption className="sr-only">{props.caption}</caption>
      <tbody>
        {props.values.map(([name, value]) => (
          <tr key={name} className="border-b last:border-b-0">
            <th
              scope="row"
              className="px-4 py-1.5 text-left align-top font-mono text-xs font-normal text-ink-soft"
            >
              {name}
            </th>
            <td className="tabular px-4 py-1.5 [overflow-wrap:anywhere]">
              {typeof value === "object" ? JSON.stringify(value) : String(value)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
