# A web server image for three regions. An ordinary Packer template: `packer
# build .` and `submit build -local .` take the same files.

packer {
  required_version = ">= 1.7.0"
  required_plugins {
    amazon = {
      version = ">= 1.2.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}

variable "version" {
  type        = string
  default     = "1.0.0"
  description = "What the page of the web server says."

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.version))
    error_message = "Version must look like 1.2.3."
  }
}

variable "regions" {
  type    = list(string)
  default = ["us-east-1", "us-west-2", "eu-west-1"]
}

locals {
  home  = var.regions[0]
  stamp = formatdate("YYYYMMDDhhmmss", timestamp())
  name  = "web-${var.version}-${local.stamp}"
}

# Which AMI would it be? The answer goes into a tag, so that one can see later
# what was newest when this image was baked.
data "amazon-ami" "newest" {
  region      = local.home
  owners      = ["099720109477"]
  most_recent = true
  filters = {
    name                = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
}

source "amazon-ebs" "web" {
  region        = local.home
  ami_regions   = var.regions
  ami_name      = local.name
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"

  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters = {
      name                = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  tags = {
    Name    = "web"
    Version = var.version
    Source  = "{{ .SourceAMI }}"
    Newest  = data.amazon-ami.newest.name
  }
}

build {
  sources = ["source.amazon-ebs.web"]

  provisioner "shell" {
    inline = ["mkdir -p /tmp/site"]
  }

  provisioner "file" {
    source      = "${path.root}/files/"
    destination = "/tmp/site"
  }

  provisioner "shell" {
    inline = [
      "echo \"baking on $(hostname), as $(id -un)\"",
      "ls -R /tmp/site",
    ]
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/install.sh"
    environment_vars = ["SITE_VERSION=${var.version}"]
    execute_command  = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
  }

  provisioner "shell" {
    inline = [
      "for i in 1 2 3; do echo \"checking, $i of 3\"; sleep 0.3; done",
      "grep -q 'version ${var.version}' /srv/site/index.html",
    ]
  }

  post-processor "manifest" {
    output     = "packer-manifest.json"
    strip_path = true
    custom_data = {
      version = var.version
    }
  }
}
