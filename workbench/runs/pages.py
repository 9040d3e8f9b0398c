"""An executed notebook as a page: one HTML file that shows and plays everything without a network."""

__all__ = ["served", "write"]

from pathlib import Path

from workbench.files import whole

FIGURE, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"

# nbconvert's own page fetches require.js, MathJax and mermaid from the network each time it is opened
OFFLINE = """{% extends 'index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block any_cell %}{% if cell.metadata.unfold %}</details>{% endif %}
{% if cell.metadata.fold %}<details><summary>{{ cell.metadata.fold | e }}</summary>{% endif %}{{ super() }}{% endblock %}
{% block body_footer %}{% if resources.folded %}</details>
<script>addEventListener("toggle", () => dispatchEvent(new Event("resize")), true)</script>{% endif %}
{{ super() }}{% endblock %}
{% block html_head_css %}<style>summary { cursor: pointer; font-size: 1.4em; margin: .5em 0 0 75px }</style>
{% if resources.plotly %}<script>{{ resources.plotly }}</script>{% endif %}{% endblock %}
"""

# Voila's own pages fetch an icon font from the network: of its template, what is beside that in the one block, and a page
# for errors with the same blocks
SERVED = {
    "conf.json": '{"base_template": "lab"}',
    "index.html.j2": """{%- extends 'voila/templates/lab/index.html.j2' -%}
{% import "spinner.macro.html.j2" as spinner %}
{%- block notebook_css -%}
{{ resources.include_js("static/voila-style.js") }}
{{ spinner.css() }}
<style>.jp-mod-noOutputs.jp-mod-noInput { display: none }</style>
{{ super.super() }}
{%- endblock notebook_css -%}
""",
    "page.html": """<!doctype html>
<html><head><meta charset="utf-8"><link rel="icon" href="data:;base64,="><title>{% block title %}{% endblock %}</title>
{% block stylesheets %}{% endblock %}{% block meta %}{% endblock %}</head>
<body>{% block body %}{% endblock %}{% block scripts %}{% endblock %}</body></html>
""",
}


def served(folder: Path) -> str:
    """Write Voila's template without what it fetches from the network, to be found with `folder` in JUPYTER_PATH; its name."""
    template = folder / "voila" / "templates" / "offline"
    template.mkdir(parents=True)
    for name, text in SERVED.items():
        (template / name).write_text(text, encoding="utf-8")
    return template.name


def write(notebook: Path) -> Path:
    """Write the page beside an executed notebook; its figures share the one plotly.js within, and its players play."""
    import nbformat
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    nb = nbformat.read(notebook, as_version=4)
    nb.metadata.pop("widgets", None)  # their state is of use only with scripts from the network
    plotly = ""
    for cell in nb.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _live_only(output)]
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):  # what stands in for a widget
                output.data.pop(WIDGET, None)
            if FIGURE in output.get("data", {}):
                plotly = plotly or _plotly()
                output.data["text/html"] = _drawn(output.data.pop(FIGURE))
    folded = _fold(nb.cells)
    loader = DictLoader({"offline.html.j2": OFFLINE})
    exporter = HTMLExporter(template_name="lab", template_file="offline.html.j2", extra_loaders=[loader])
    html, _ = exporter.from_notebook_node(nb, {"metadata": {"name": notebook.stem}, "plotly": plotly, "folded": folded})
    target = notebook.with_suffix(".html")
    with whole(target) as part:
        part.write_text(html, encoding="utf-8")
    return target


def _fold(cells) -> bool:
    """Mark the cells below headings that JupyterLab shows collapsed, each up to the next heading; is the last one open?"""
    inside = False
    for cell in cells:
        heading = cell.source.partition("\n")[0] if cell.cell_type == "markdown" and cell.source.startswith("#") else ""
        if heading:
            cell.metadata.unfold, inside = inside, bool(cell.metadata.get("jp-MarkdownHeadingCollapsed"))
            if inside:
                cell.metadata.fold, cell.source = heading.lstrip("# "), cell.source.partition("\n")[2] or " "
    return inside


def _live_only(output) -> bool:
    # a progress bar, say, whose text is that of its first moment
    return WIDGET in output.get("data", {}) and not set(output.data) - {WIDGET, "text/plain"}


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _drawn(figure: dict) -> str:
    from plotly.io import to_html

    from workbench.plots.style import CONFIG

    figure = {"data": figure.get("data", []), "layout": figure.get("layout", {})}
    return to_html(figure, CONFIG, include_plotlyjs=False, full_html=False, validate=False)
