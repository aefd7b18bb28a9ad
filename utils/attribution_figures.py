"""The figures of saliency.py: sheets of maps, the evidence for them, and mean maps of the classes."""

import numpy as np

from utils.attribution_checks import fails
from utils.figures import COLORS, plt, save_figure

UNITS = {"gradient": "|d logit / d grey level|", "gradient-x-input": "|gradient x grey level| (logits)",
         "smoothgrad": "|mean gradient| (logits per grey level)", "squaregrad": "mean squared gradient",
         "vargrad": "variance of the gradient", "integrated-gradients": "|share of the logit| (logits)",
         "guided-backprop": "|guided gradient|", "occlusion": "fall of the logit", "rise": "rise of the logit"}
RELATIVE = "relative to each map's 99.5th percentile"
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}


def show_map(ax, value, blank, relative):
    """Draw one map in jet up to its 99.5th percentile, so that a single pixel does not hide the rest."""
    value = np.maximum(value, 0)
    top = np.percentile(value, 99.5) or value.max() or 1.0
    image = ax.imshow(value / top if relative else value, cmap="jet", vmin=0, vmax=1 if relative else top)
    if blank:
        ax.text(0.5, 0.5, "blank", transform=ax.transAxes, color="white", ha="center", va="center", fontsize=8)
    return image


def bare(axes):
    """Images need no ticks and no frame."""
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.set_box_aspect(1)
        ax.spines[:].set_visible(False)


def triptychs(sheet, method, path):
    """Original, heat map and masked face of each image, several triptychs beside each other when there are many.

    sheet: has name, target, keep (%), and a list or an array a face of captions, said (classes in words), words (what is
    explained), explained (its class), grey, left (masked faces), and by method values, blank and kept (probabilities).
    """
    n = len(sheet.captions)
    across = 1 if n <= 4 else 2 if n <= 16 else 3
    down = -(-n // across)
    widths = ([1, 1, 1, 0.12] * across)[:-1]
    size = {1: (7.2, 2.75 if n == 1 else 2.35 * down + 1), 2: (9.2, 1.85 * down + 1.1), 3: (12.4, 1.75 * down + 1.1)}[across]
    figure, axes = plt.subplots(down, len(widths), figsize=size, width_ratios=widths, layout="constrained", squeeze=False)
    bare(axes)
    for ax in axes.flat:
        ax.set_visible(False)
    small = 7.5 if across == 1 else 6
    for i in range(n):
        column = 4 * (i // down)
        original, heat, masked = trio = axes[i % down, column:column + 3]
        for ax in trio:
            ax.set_visible(True)
        original.imshow(sheet.grey[i], cmap="gray", vmin=0, vmax=255)
        image = show_map(heat, sheet.values[method][i], sheet.blank[method][i], relative=n > 1)
        masked.imshow(sheet.left[i], cmap="gray", vmin=0, vmax=255)
        before, after, random, edges = (p[i] for p in (*sheet.kept[method], sheet.kept["random"][1], sheet.kept["edges"][1]))
        original.set_title(sheet.captions[i], fontsize=9 if across == 1 else 7.5)
        original.set_xlabel(sheet.said[i], fontsize=small)
        heat.set_xlabel(f"for {sheet.words[i]}", fontsize=small)
        masked.set_xlabel(f"p({sheet.explained[i]}): {before:.2f} whole, {after:.2f} kept\n"
                          f"instead: random {random:.2f}, edges {edges:.2f}", fontsize=small)
        if i % down == 0:
            heat.set_title(method, fontsize=9 if across == 1 else 7.5)
            masked.set_title(f"top {sheet.keep:g} % of the area", fontsize=9 if across == 1 else 7.5)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if n == 1:
        figure.colorbar(image, ax=axes[0, 1], extend="max", label=UNITS.get(method, "weighted activation"))
    else:
        figure.colorbar(image, ax=axes, extend="max", location="bottom", shrink=0.5, aspect=40, label=RELATIVE)
    what = "predicted class minus runner-up" if sheet.target == "contrastive" else (
        f"{sheet.target} class" if sheet.target in ("predicted", "true") else f"class {sheet.target}")
    note = "\nguided-backprop: edges, not evidence (Adebayo et al. 2018)" if method == "guided-backprop" else ""
    figure.suptitle(f"Saliency of {sheet.name}: {method}, {what}{note}", fontsize=10.5)
    save_figure(figure, path)


def side_by_side(sheet, methods, path):
    """Several methods for each face: a grid for one face, else a row a face or, of many methods, several. `sheet` as in
    `triptychs`."""
    n = len(sheet.captions)
    across = 5 if n == 1 else 8  # the face and its maps; for several faces nothing but the face stands in the first column
    columns = min(across, len(methods) + 1)
    lines = -(-(len(methods) + 1) // columns) if n == 1 else -(-len(methods) // (columns - 1))
    size = 1.5 if n == 1 else 0.95
    titled = n == 1 or lines > 1
    figure, axes = plt.subplots(n * lines, columns, squeeze=False, layout="constrained",
                                figsize=(size * columns + 0.9, (size + (0.05 if not titled else size / 5)) * n * lines + 1.3))
    bare(axes)
    for ax in axes.flat:
        ax.set_visible(False)
    for i in range(n):
        rows = axes[i * lines:(i + 1) * lines]
        original, *cells = rows.flat if n == 1 else [rows[0, 0], *rows[:, 1:].flat]
        original.set_visible(True)
        original.imshow(sheet.grey[i], cmap="gray", vmin=0, vmax=255)
        if n == 1:
            original.set_title(sheet.said[i], fontsize=7)
        else:
            original.set_ylabel(f"{sheet.captions[i]}\n{sheet.said[i]}", fontsize=6, rotation=0, ha="right", va="center")
        for ax, method in zip(cells, methods):
            ax.set_visible(True)
            image = show_map(ax, sheet.values[method][i], sheet.blank[method][i], relative=True)
            if i == 0 or titled:
                doubtful = method == "guided-backprop"
                words = method if n == 1 else method.replace("-gradients", "\ngradients").replace("-x-", "\nx ")
                ax.set_title(words + (" †" if doubtful else ""), fontsize=8 if n == 1 else 6.5, pad=3,
                             color=COLORS["red"] if doubtful else "black")
    figure.get_layout_engine().set(h_pad=0.05)
    figure.colorbar(image, ax=axes, extend="max", location="bottom", shrink=0.5, aspect=40, label=RELATIVE)
    note = "\n† draws edges whatever was learnt (Adebayo et al. 2018)" if "guided-backprop" in methods else ""
    words = f", {sheet.captions[0]}, for {sheet.words[0]}" if n == 1 else ""
    figure.suptitle(f"Saliency of {sheet.name}{words}{note}", fontsize=10)
    save_figure(figure, path)


def color_of(method):
    """The colour of a method's family; the controls are grey."""
    if method in CONTROL_STYLES:
        return "control", COLORS["grey"]
    if method == "guided-backprop":
        return "guided", COLORS["purple"]
    if "-cam" in method:
        return "class activation", COLORS["red"]
    return ("perturbation", COLORS["green"]) if method in ("occlusion", "rise") else ("gradient", COLORS["blue"])


def evaluation(name, found, order, marked, n, path):
    """Deletion and insertion curves, the best of each family in bold, above the areas of all methods with intervals.

    found: as `attribution_checks.judge` gives it; order: {method: {"deletion area": (mean, low, high), "insertion area"}},
    best first; marked: methods that fail the randomisation.
    """
    height = 0.2 * len(found) + 0.4
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 3.3 + height), layout="constrained", height_ratios=[2.6, height])
    for ax, axis, kind, sign in zip(axes[0], axes[1], ("deletion", "insertion"), (1, -1)):
        best = {}
        for method in sorted(found, key=lambda key: sign * found[key][f"{kind} area"].mean()):
            curve = found[method][kind].mean(0)
            group, color = color_of(method)
            bold = group == "control" or best.setdefault(group, method) == method
            ax.plot(np.linspace(0, 100, len(curve)), curve, CONTROL_STYLES.get(method, "-"), color=color,
                    lw=1.8 if bold else 0.7, alpha=1 if bold else 0.5, label=method if bold else None)
        ax.set(xlabel="most salient area " + ("removed (%)" if sign > 0 else "shown (%)"), ylim=(0, 1),
               title=kind.capitalize() + (" (low is good)" if sign > 0 else " (high is good)"))
        ax.legend(loc="best", ncols=2, columnspacing=1, handlelength=2.4, fontsize=7, frameon=True, edgecolor="none")
        for y, method in enumerate(reversed(order)):
            value, low, high = order[method][f"{kind} area"]
            axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", ms=4, capsize=2, color=color_of(method)[1])
        axis.set(xlabel=f"area under the {kind} curve", yticks=range(len(order)))
        for each in (ax, axis):
            each.grid(True)
            each.set_axisbelow(True)
    axes[0, 0].set_ylabel("mean probability of the class")
    axes[1, 0].set_yticklabels([method + (" †" if method in marked else "") for method in reversed(order)])
    axes[1, 1].set_yticklabels([])
    failing = "\n† fails: nearly the same map without what was learnt" if marked else ""
    figure.suptitle(f"Do the maps of {name} find what the network uses? {n} faces, 95 % intervals{failing}", fontsize=10.5)
    save_figure(figure, path)


def randomisation(name, stages, result, path):
    """Rank correlation and structural similarity of each method's maps as the network is re-drawn from the top down."""
    methods = sorted(result, key=lambda method: result[method][0].mean())
    figure, axes = plt.subplots(1, 2, figsize=(2.6 + 0.75 * len(stages), 1.8 + 0.27 * len(methods)), layout="constrained",
                                sharey=True)
    for k, (ax, title) in enumerate(zip(axes, ("rank correlation of |map|", "structural similarity"))):
        means = np.array([result[method][k].mean(1) for method in methods])
        image = ax.imshow(means, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(means):
            ax.text(x, y, f"{round(value, 2) + 0.0:.2f}".replace("0.", "."), ha="center", va="center", fontsize=6.5,
                    color="black" if value > 0.5 else "white")
        ax.set_xticks(range(len(stages)), stages, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_title(title)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    failing = [fails(*result[method]) for method in methods]
    axes[0].set_yticks(range(len(methods)), [f"fails: {m}" if f else m for m, f in zip(methods, failing)])
    for label, failed in zip(axes[0].get_yticklabels(), failing):
        label.set(color=COLORS["red"] if failed else "black", fontweight="bold" if failed else "normal")
    figure.supxlabel("layers re-drawn, from the output down to", fontsize=9)
    figure.colorbar(image, ax=axes, label="1: the map of the trained network", aspect=30)
    figure.suptitle(f"Do the maps of {name} change as its weights are lost? (Adebayo et al. 2018)", fontsize=10.5)
    save_figure(figure, path)


def mean_maps(name, method, classes, faces, averages, n, path):
    """Mean face and mean maps of each class: faces {class: (h, w)}, averages {(class, group): (count, map (h, w))}."""
    groups = ("all", "right", "wrong")
    shown = [average for count, average in averages.values() if count]
    top = np.percentile(shown, 99.5) if shown else 1.0
    figure, axes = plt.subplots(4, len(classes), figsize=(1.05 * len(classes) + 0.9, 5.4), layout="constrained",
                                squeeze=False)
    bare(axes)
    image = None
    for column, key in zip(axes.T, classes):
        column[0].imshow(faces[key], cmap="gray", vmin=0, vmax=255)
        column[0].set_title(key)
        for ax, group in zip(column[1:], groups):
            count, average = averages[key, group]
            ax.set_xlabel(f"n = {count:,}", fontsize=7, labelpad=2)
            if count:
                image = ax.imshow(average, cmap="inferno", vmin=0, vmax=top)
    for ax, words in zip(axes[:, 0], ("mean face", *groups)):
        ax.set_ylabel(words)
    if image is not None:
        figure.colorbar(image, ax=axes[1:], extend="max", label="saliency, times the map's mean", aspect=30)
    figure.suptitle(f"Where {name} looks: {method}, mean of each true class, {n:,} faces", fontsize=10.5)
    save_figure(figure, path)
