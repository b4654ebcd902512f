"""How the page looks: our own colours with enough contrast, the system's fonts, nothing fetched
from elsewhere."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def make_theme() -> gr.themes.Base:
    """Teal on slate, light and dark."""
    theme = gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    )
    return theme.set(
        color_accent="*primary_700",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_border_width="1px",
        block_shadow="none",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_border_width="1px",
        button_large_text_size="*text_md",
        button_large_text_weight="500",
        button_large_padding="*spacing_md *spacing_lg",
    )


CSS = """
.gradio-container { max-width: 1280px !important; padding: 0.75rem !important; }
.top { align-items: center; justify-content: space-between; flex-wrap: nowrap; }
.hint h2 { font-size: 1rem; margin: 0; }
.top h1 { font-size: 1.35rem; margin: 0; letter-spacing: -0.02em; }
.top button { flex: 0 0 auto; }
.dark { --color-accent: var(--primary-400); }
.hint p { color: var(--body-text-color-subdued); margin: 0; }
.buttons { flex-wrap: wrap; }
.status:not(:has(.said)) { display: none; }
.status .run + .run { margin-top: 0.75rem; }
.status .said { font-weight: 600; margin: 0 0 0.25rem; }
.status .said.failed { color: #b91c1c; }
.dark .status .said.failed { color: #fca5a5; }
.status .facts, #facts .facts { color: var(--body-text-color-subdued); margin: 0 0 0.25rem;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.status progress { appearance: none; width: 100%; height: 0.5rem; border: 0; border-radius: 4px;
  overflow: hidden; background: var(--neutral-200); color: var(--primary-600); display: block; }
.dark .status progress { background: var(--neutral-700); color: var(--primary-400); }
.status progress::-webkit-progress-bar { background: transparent; }
.status progress::-webkit-progress-value { background: currentColor; }
.status progress::-moz-progress-bar { background: currentColor; }
.status progress:indeterminate { opacity: 0.5; }
#roughs:not(:has(img)) { display: none; }
.roughs { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
.rough { width: 100%; border-radius: 8px; }
.rough:only-child { grid-column: 1 / -1; max-width: 440px; justify-self: center; }
/* What is being drawn stands where it will be seen, unless another picture was chosen; what
   belongs to the last picture, its buttons and facts, goes with it. */
.gradio-container:has(.roughs):has(#viewer:not(.kept)) :is(#viewer, #of-picture, #facts) {
  display: none; }
#facts .about { overflow-wrap: anywhere; }
#facts .about .name { font-family: var(--font-mono); font-size: 0.85rem; margin: 0;
  color: var(--body-text-color-subdued); }
#facts p { margin: 0.15rem 0; }
#facts dl, .figures { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; margin: 0.4rem 0 0; }
#facts dt, .figures dt { font-size: 0.75rem; color: var(--body-text-color-subdued); }
#facts dd, .figures dd { margin: 0; font-variant-numeric: tabular-nums; }
.figures dd { font-weight: 600; font-size: 1.1rem; }
.wide { overflow-x: auto; }
.wide :is(table, thead, tbody, tr) { border: 0 !important; }
.wide table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.wide th, .wide td { text-align: left; padding: 0.4rem 0.75rem !important; white-space: nowrap;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.plot { margin: 0 auto; max-width: 540px; }
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.plot line { stroke: var(--border-color-primary); }
.plot text { fill: var(--body-text-color-subdued); font-size: 13px; }
.plot .k0 circle { fill: #0f766e; } .dark .plot .k0 circle { fill: #2dd4bf; }
.plot .k1 circle { fill: #c2410c; } .dark .plot .k1 circle { fill: #fb923c; }
.plot g text { fill: var(--body-text-color); }
.plot figcaption { display: flex; gap: 1rem; justify-content: center; font-size: 0.85rem; }
.plot span::before { content: "●"; margin-right: 0.3rem; }
.plot span.k0::before { color: #0f766e; } .dark .plot span.k0::before { color: #2dd4bf; }
.plot span.k1::before { color: #c2410c; } .dark .plot span.k1::before { color: #fb923c; }
#plot:not(:has(figure)), #profiles:not(:has(table)) { display: none; }
#history .grid-wrap { height: auto; min-height: 110px; max-height: 420px; }
@media (max-width: 640px) {
  /* One column: what is drawn comes right below its button, settings after it. */
  .sides, .sides > .column { display: flex; flex-direction: column; flex-wrap: nowrap; }
  .sides > .column { display: contents; }
  .sides > .column > * { order: 5; }
  .sides > .column:first-child > :nth-child(-n + 2) { order: 1; }
  .sides > .column:last-child > * { order: 3; }
}
"""

# No picture, font or script of another place is ever asked for, also not by a model's answer.
# Gradio's own HTML component cannot do without eval.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)

# Gradio scopes the rules above to what lies inside of the margins; those of phones are set here.
# Ctrl+Enter presses the main button of the tab that is shown. The theme is the system's, or what
# was chosen last. Gradio's gallery asks for the focus for every picture that comes: whoever types
# keeps it. A click, a key or a screen reader moves it without asking.
HEAD = f"""
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<style>
@media (max-width: 640px) {{ .gradio-container .main.fillable {{ padding: 0.25rem !important; }} }}
</style>
<script>
document.addEventListener("keydown", (event) => {{
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const go = [...document.querySelectorAll("button.go")].find((own) => own.offsetParent);
  if (go) {{ event.preventDefault(); event.stopPropagation(); go.click(); }}
}}, true);
const takeFocus = HTMLElement.prototype.focus;
HTMLElement.prototype.focus = function (...how) {{
  const typing = document.activeElement?.matches("input, textarea");
  if (!typing || !this.closest("#viewer")) takeFocus.apply(this, how);
}};
document.addEventListener("DOMContentLoaded", () => {{
  const chosen = localStorage.getItem("mindsd-theme");
  if (chosen) setTimeout(() => document.body.classList.toggle("dark", chosen === "dark"), 0);
}});
</script>
"""

SWITCH = """() => {
  const dark = document.body.classList.toggle("dark");
  localStorage.setItem("mindsd-theme", dark ? "dark" : "light");
}"""
