// Text of the examples that call a model through the gateway.

export const SNIPPETS = [
  { id: "curl", label: "curl" },
  { id: "python", label: "Python" },
  { id: "javascript", label: "JavaScript (npm)" },
] as const;
type SnippetKind = (typeof SNIPPETS)[number]["id"];

/** `origin`: where the platform is, e.g. "http://127.0.0.1:7777". */
export function snippet(kind: SnippetKind, model: string, origin: string): string {
  const base = `${origin}/inference/v1`;
  if (kind === "curl")
    return `curl -s ${base}/chat/completions \\
  -H "Authorization: Bearer $FIREWORKS_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${model}",
       "messages": [{"role": "user", "content": "Hello"}]}'`;
  if (kind === "python")
    return `# pip install openai
import os
from openai import OpenAI

client = OpenAI(base_url="${base}", api_key=os.environ["FIREWORKS_API_KEY"])
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`;
  return `// npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "${base}",
  apiKey: process.env.FIREWORKS_API_KEY,
});
const answer = await client.chat.completions.create({
  model: "${model}",
  messages: [{ role: "user", content: "Hello" }],
});
console.log(answer.choices[0].message.content);`;
}
