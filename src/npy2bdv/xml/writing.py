"""SpimData values -> XML text, in the shape that Java parses (formats.md 1.1 and 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import Angle, Tile
from npy2bdv.xml.elements import (
    collector_off,
    entity_tag,
    join_numbers,
    number_text,
    view_attributes,
    write_element,
    write_kept,
    write_leaf,
    write_path,
)
from npy2bdv.xml.loaders import write_loader

if TYPE_CHECKING:
    from lxml.etree import _Element

    from npy2bdv.model.spimdata import (
        AttributeGroup,
        GeneratedBy,
        SpimData,
        Timepoints,
        ViewId,
        ViewRegistration,
        ViewSetup,
    )


def serialise(data: SpimData) -> bytes:
    """Return the XML text (UTF-8, with declaration) of a dataset description.

    Numbers are written with `repr`, so that they read back exactly; leaf elements hold no white space
    around their text, which Java does not strip (formats.md 1.2).

    Raises
    ------
    InvalidInputError
        If a name holds characters that XML does not have (control characters).
    """
    try:
        root = etree.Element("SpimData", version="0.2")
        with collector_off():
            _write_root(root, data)
    except ValueError as error:
        raise InvalidInputError(f"a name or unit of the dataset cannot be written as XML: {error}") from error
    etree.indent(root, "  ")
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8") + b"\n"


def _write_root(root: _Element, data: SpimData) -> None:
    write_path(root, "BasePath", data.base_path)
    if data.generated_by is not None:
        _write_generated_by(root, data.generated_by)
    sequence = etree.SubElement(root, "SequenceDescription")
    if data.loader is not None:
        write_loader(sequence, data.loader)
    setups = etree.SubElement(sequence, "ViewSetups")
    for _, setup in sorted(data.setups.items()):
        _write_setup(setups, setup)
    for group in data.attributes.values():
        _write_group(setups, group)
    timepoints = _write_timepoints(sequence, data.timepoints)
    parents = {
        "SpimData": root,
        "SequenceDescription": sequence,
        "ViewSetups": setups,
        "Timepoints": timepoints,
    }
    if data.missing is not None:
        missing = parents["MissingViews"] = etree.SubElement(sequence, "MissingViews")
        for view in sorted(data.missing):
            etree.SubElement(missing, "MissingView", view_attributes(view))
    registrations = parents["ViewRegistrations"] = etree.SubElement(root, "ViewRegistrations")
    for view in sorted(data.registrations):
        _write_registration(registrations, view, data.registrations[view])
    for section in data.sections:
        write_element(root, section)
    for tag, kept in data.kept.items():
        if tag in parents:
            write_kept(parents[tag], kept)


def _write_generated_by(root: _Element, made: GeneratedBy) -> None:
    node = etree.SubElement(root, "generatedBy")
    etree.SubElement(node, "library", version=made.library_version).text = made.library
    microscope = etree.SubElement(node, "microscope")
    write_leaf(microscope, "name", made.microscope)
    write_leaf(microscope, "version", made.microscope_version)
    write_leaf(microscope, "user", made.user)


def _write_setup(parent: _Element, setup: ViewSetup) -> None:
    node = etree.SubElement(parent, "ViewSetup")
    write_leaf(node, "id", setup.id)
    if setup.name is not None:
        write_leaf(node, "name", setup.name)
    if setup.size_xyz is not None:
        write_leaf(node, "size", " ".join(map(str, setup.size_xyz)))
    if setup.voxel_size is not None:
        voxel_size = etree.SubElement(node, "voxelSize")
        if setup.voxel_size.unit is not None:
            write_leaf(voxel_size, "unit", setup.voxel_size.unit)
        write_leaf(voxel_size, "size", join_numbers(setup.voxel_size.size_xyz))
    if setup.camera is not None:
        camera = etree.SubElement(node, "camera")
        write_leaf(camera, "name", setup.camera.name)
        write_leaf(camera, "exposureTime", number_text(setup.camera.exposure_time))
        write_leaf(camera, "exposureUnits", setup.camera.exposure_unit)
    attributes = etree.SubElement(node, "attributes")
    for name, id_ in setup.attributes.items():
        write_leaf(attributes, name, id_)
    write_kept(node, setup.kept)


def _write_group(parent: _Element, group: AttributeGroup) -> None:
    node = etree.SubElement(parent, "Attributes", name=group.name)
    tag = entity_tag(group.name)
    for entity in group.entities.values():
        child = etree.SubElement(node, tag)
        write_leaf(child, "id", entity.id)
        if entity.name is not None:
            write_leaf(child, "name", entity.name)
        if isinstance(entity, Tile) and entity.location_xyz is not None:
            write_leaf(child, "location", join_numbers(entity.location_xyz))
        if isinstance(entity, Angle):
            if entity.axis_xyz is not None:
                write_leaf(child, "axis", join_numbers(entity.axis_xyz))
            if entity.degrees is not None:
                write_leaf(child, "degrees", number_text(entity.degrees))
        write_kept(child, entity.kept)
    write_kept(node, group.kept)


def _write_timepoints(parent: _Element, timepoints: Timepoints) -> _Element:
    node = etree.SubElement(parent, "Timepoints", type=timepoints.type)
    if timepoints.type == "pattern":
        write_leaf(node, "integerpattern", timepoints.pattern or "")
    elif timepoints.type == "range" and timepoints.ids:
        write_leaf(node, "first", timepoints.ids[0])
        write_leaf(node, "last", timepoints.ids[-1])
    else:
        node.set("type", "list")
        for id_ in timepoints.ids:
            write_leaf(etree.SubElement(node, "Timepoint"), "id", id_)
    return node


def _write_registration(parent: _Element, view: ViewId, registration: ViewRegistration) -> None:
    node = etree.SubElement(parent, "ViewRegistration", view_attributes(view))
    for transform in registration.transforms:
        if transform.affine is None:
            if transform.kept is not None:
                write_element(node, transform.kept)
            continue
        child = etree.SubElement(node, "ViewTransform", type="affine")
        if transform.name is not None:
            write_leaf(child, "Name", transform.name)
        write_leaf(child, "affine", join_numbers(transform.affine.values))
    write_kept(node, registration.kept)
